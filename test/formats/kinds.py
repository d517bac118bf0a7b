"""The Python side of kinds.test.ts.

    kinds.py make DIR     writes files of every kind of value and container that `load` reads, and describes some
    kinds.py check DIR    compares DIR/again_NAME.pt, written by torchbind, with DIR/NAME.pt
"""

import argparse
import collections
import dataclasses
import enum
import io
import json
import os
import pickle
import random
import struct
import sys
import tarfile
import warnings

import numpy as np
import torch
from torch import nn

warnings.filterwarnings("ignore")


@dataclasses.dataclass
class Config:
    name: str
    sizes: list
    rate: float = 0.5


class Color(enum.Enum):
    RED = 1


class Bag(dict):
    pass


class Row(list):
    pass


def path_of(directory, name):
    return os.path.join(directory, f"{name}.pt")


# Kinds of values.


def quantized():
    values = torch.tensor([[-1.0, 0.25], [2.0, 3.5], [0.0, -0.75]])
    scales, zeros = torch.tensor([0.1, 0.05, 0.02], dtype=torch.float64), torch.tensor([1, 2, 3])
    return {
        "qint8": torch.quantize_per_tensor(values, 0.1, 3, torch.qint8),
        "quint8": torch.quantize_per_tensor(values, 0.1, 30, torch.quint8),
        "qint32": torch.quantize_per_tensor(values, 1e-4, 0, torch.qint32),
        "channels": torch.quantize_per_channel(values, scales, zeros, 0, torch.qint8),
        "transposed": torch.quantize_per_tensor(values, 0.1, 3, torch.qint8).t(),
    }


def sparse():
    dense = torch.tensor([[0.0, 1.5, 0, 0], [0, 0, -2, 0], [3, 0, 0, 0], [0, 0, 0, 4]])
    uncoalesced = torch.sparse_coo_tensor([[0, 0, 1], [2, 2, 0]], [1.0, 2.0, 3.0], (2, 3))
    hybrid = torch.sparse_coo_tensor([[0, 2]], [[1.0, 2.0], [3.0, 4.0]], (3, 2))
    return {
        "coo": dense.to_sparse(),
        "uncoalesced": uncoalesced,
        "hybrid": hybrid,
        "none": torch.sparse_coo_tensor(torch.empty(2, 0, dtype=torch.int64), torch.empty(0), (2, 3)),
        "csr": dense.to_sparse_csr(),
        "csc": dense.to_sparse_csc(),
        "bsr": dense.to_sparse_bsr((2, 2)),
        "bsc": dense.to_sparse_bsc((2, 2)),
    }


NUMPY = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1", "c8", "c16"]


def numpy_values():
    arrays = {code: np.arange(-3, 3).astype(code).reshape(2, 3) for code in NUMPY}
    arrays |= {"fortran": np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)), "none": np.empty((0, 3))}
    arrays |= {"zero_d": np.array(7.0), "slice": np.arange(10)[2:9:3]}
    return {"arrays": arrays, "scalars": [np.dtype(code).type(3) for code in NUMPY] + [np.float16(-0.1), np.float64("nan")]}


def collected():
    counts = collections.defaultdict(list, {"a": [1, 2], "b": []})
    return {
        "default": counts,
        "counter": collections.Counter("hello"),
        "no_factory": collections.defaultdict(None, {1: 2}),
        "sets": [{1, 2}, frozenset({3, "x"}), set(), frozenset()],
        "shared": [counts, counts],
    }


def inert():
    shared = argparse.Namespace(rate=0.1, layers=[1, 2], weight=torch.ones(2))
    return {
        "args": shared,
        "again": shared,
        "config": Config("gpt", [1, 2.0, None]),
        "color": Color.RED,
        "bag": Bag(a=1, b=torch.arange(3)),
        "row": Row([1, "two"]),
        "class": Config,
    }


def meta():
    return {"m": torch.empty(3, 4, device="meta"), "t": torch.empty(2, 5, device="meta", dtype=torch.int8).t()}


def rng_state():
    """As the Trainer of transformers saves it."""
    np.random.seed(1)
    random.seed(1)
    return {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.random.get_rng_state()}


SAFE = {"quantized": quantized, "sparse": sparse, "meta": meta}
TRUSTED = {"numpy": numpy_values, "collected": collected, "inert": inert, "rng_state": rng_state}
KINDS = SAFE | TRUSTED


# Random values of all kinds, nested.


def random_leaf(rng):
    leaves = [
        lambda: rng.choice([None, True, False, "", "text \u20ac", b"", b"\x00\xff", 1.5, 2.0, -0.0, float("inf")]),
        lambda: rng.choice([0, -1, 255, 2**31, 2**53, 2**70, -(2**63)]),
        lambda: torch.randn(rng.randrange(4), rng.randrange(4)),
        lambda: nn.Parameter(torch.randn(2)),
        lambda: torch.arange(24).view(4, 6).t()[rng.randrange(6) :],
        lambda: (torch.arange(8) * 31 % 251).to(torch.uint8).view(rng.choice([torch.bfloat16, torch.float8_e5m2, torch.uint32, torch.complex64])),
        lambda: rng.choice(list(quantized().values())),
        lambda: rng.choice(list(sparse().values())),
        lambda: rng.choice(list(numpy_values()["arrays"].values())),
        lambda: rng.choice(numpy_values()["scalars"]),
        lambda: rng.choice([torch.float16, torch.device("cuda:1"), torch.Size([2, 3]), 1 + 2j, bytearray(b"ab")]),
        lambda: rng.choice([{1, "a"}, frozenset({2}), Color.RED, collections.Counter("ab")]),
    ]  # fmt: skip
    return rng.choice(leaves)()


def random_value(rng, depth=3):
    if depth == 0 or rng.random() < 0.2:
        return random_leaf(rng)
    items = [random_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if items and rng.random() < 0.3:
        items.append(items[0])
    named = {rng.choice([f"k{i}", i, (i, "t"), i + 0.5, None]): item for i, item in enumerate(items)}
    shape = rng.randrange(8)
    if shape < 6:
        return [
            items, tuple(items), named, collections.OrderedDict(named), collections.defaultdict(dict, named), Bag(named),
        ][shape]  # fmt: skip
    return argparse.Namespace(items=items) if shape == 6 else Config("random", items)


# Containers.


class Reference:
    """Stands for a persistent id."""

    def __init__(self, *parts):
        self.id = parts if len(parts) > 1 else parts[0]


class Rebuilt:
    """Pickled as a call of a function of torch._utils."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.arguments


def dump(value, protocol=2):
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.id if isinstance(value, Reference) else None

    out = io.BytesIO()
    Pickler(out, protocol).dump(value)
    return out.getvalue()


def legacy_views(path):
    """Storages that are views of others, as PyTorch before 0.4 had them."""

    def tensor(view, offset, size, stride):
        storage = Reference("storage", torch.FloatStorage, "100", "cpu", 10, view)
        return Rebuilt(storage, offset, size, stride, False, collections.OrderedDict())

    value = {
        "whole": tensor(None, 0, (10,), (1,)),
        "view": tensor(("200", 2, 6), 1, (2, 2), (2, 1)),
        "same": tensor(("200", 2, 6), 0, (6,), (1,)),
    }
    info = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    with open(path, "wb") as file:
        for part in [0x1950A86A20F9469CFC6C, 1001, info, value, ["100"]]:
            file.write(dump(part))
        file.write(struct.pack("<q10f", 10, *range(10)))


def tar_file(path, format):
    """As PyTorch 0.1 wrote it: a float storage of six, a view of it, and three tensors."""
    value = collections.OrderedDict(w=Reference(11), v=Reference(12), b=Reference(13), again=Reference(11))
    storages = dump(2) + dump((1, "cpu", torch.FloatStorage)) + struct.pack("<q6f", 6, *[0.5 * i for i in range(6)])
    storages += dump((2, "cpu", torch.LongStorage)) + struct.pack("<q2q", 2, -7, 2**40) + dump([(3, 1, 2, 4)])

    def tensor(key, root, type, sizes, strides, offset):
        n = len(sizes)
        return dump((key, root, type)) + struct.pack(f"<ii{2 * n + 1}q", n, 0, *sizes, *strides, offset)

    tensors = dump(3) + tensor(11, 1, torch.FloatTensor, (2, 3), (3, 1), 0)
    tensors += tensor(12, 3, torch.FloatTensor, (2,), (2,), 1) + tensor(13, 2, torch.LongTensor, (2,), (1,), 0)
    members = {"sys_info": dump({"protocol_version": 1000}), "pickle": dump(value), "tensors": tensors, "storages": storages}
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5
            tar.addfile(info, io.BytesIO(data))


def programs(directory):
    linear = nn.Linear(2, 2)
    torch.jit.script(linear)._save_for_lite_interpreter(path_of(directory, "mobile"))
    torch.export.save(torch.export.export(linear, (torch.ones(1, 2),)), path_of(directory, "exported") + "2")
    with torch.package.PackageExporter(path_of(directory, "packaged")) as exporter:
        exporter.save_pickle("model", "model.pkl", {"a": 1})


def containers(directory):
    plain = {"a": torch.arange(6.0).view(2, 3).t(), "n": [1, 2.5, "x"], "c": torch.tensor([1 + 2j])}
    plain["tied"] = plain["a"][1:]
    for protocol in range(1, 6):
        torch.save(plain, path_of(directory, f"legacy{protocol}"), _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    big = {"w": torch.arange(70_000), "b": torch.arange(5, dtype=torch.bfloat16)}
    torch.save(big, path_of(directory, "legacy_big"), _use_new_zipfile_serialization=False)
    legacy_views(path_of(directory, "legacy_views"))
    for name, format in [("tar_gnu", tarfile.GNU_FORMAT), ("tar_pax", tarfile.PAX_FORMAT), ("tar_ustar", tarfile.USTAR_FORMAT)]:
        tar_file(path_of(directory, name), format)
    names = [f"legacy{protocol}" for protocol in range(1, 6)] + ["legacy_big", "legacy_views", "tar_gnu", "tar_pax", "tar_ustar"]
    return {name: plainly(torch.load(path_of(directory, name), weights_only=False)) for name in names}


def plainly(value):
    if isinstance(value, torch.Tensor):
        flat = torch.view_as_real(value) if value.is_complex() else value
        return {"dtype": str(value.dtype)[6:], "stride": list(value.stride()), "values": flat.tolist()}
    if isinstance(value, dict):
        return {key: plainly(item) for key, item in value.items()}
    return value


def make(directory):
    for name, build in KINDS.items():
        torch.save(build(), path_of(directory, name))
    for protocol in range(6):
        torch.save({"n": numpy_values(), "c": collected()}, path_of(directory, f"protocol{protocol}"), pickle_protocol=protocol)
    torch.manual_seed(0)
    rng = random.Random(0)
    for i in range(120):
        torch.save(random_value(rng), path_of(directory, f"random{i}"))
    torch.save({"n": np.array(["a", "b"])}, path_of(directory, "numpy_text"))
    torch.save({"n": np.array([[1], "x"], dtype=object)}, path_of(directory, "numpy_object"))
    torch.save({"n": np.zeros(2, dtype=[("a", "f4")])}, path_of(directory, "numpy_struct"))
    torch.save(np.arange(3, dtype=">i4"), path_of(directory, "numpy_big_endian"))
    torch.save(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), path_of(directory, "nested"))
    torch.save({"s": os.system}, path_of(directory, "system"))
    programs(directory)
    print(json.dumps(containers(directory)))


# Comparison.


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return same_tensor(a, b)
    if isinstance(a, (np.ndarray, np.generic)):
        return a.dtype == b.dtype and np.shape(a) == np.shape(b) and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        factory = isinstance(a, collections.defaultdict) and a.default_factory is not b.default_factory
        return not factory and list(a) == list(b) and all(map(same, a.values(), b.values())) and same_state(a, b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (argparse.Namespace, Config)):
        return same_state(a, b)
    return a == b if isinstance(a, (set, frozenset)) else repr(a) == repr(b)


def same_state(a, b):
    return same(getattr(a, "__dict__", None), getattr(b, "__dict__", None))


def bits(tensor):
    flat = tensor.detach().flatten().clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def same_tensor(a, b):
    if (a.dtype, a.shape, a.layout, a.device, a.requires_grad) != (b.dtype, b.shape, b.layout, b.device, b.requires_grad):
        return False
    if a.device.type == "meta":
        return a.stride() == b.stride()
    if a.is_quantized:
        equal = a.qscheme() == b.qscheme() and bits(a.int_repr()) == bits(b.int_repr())
        if a.qscheme() == torch.per_tensor_affine:
            return equal and a.q_scale() == b.q_scale() and a.q_zero_point() == b.q_zero_point()
        parts = ["q_per_channel_scales", "q_per_channel_zero_points"]
        return equal and all(same(getattr(a, part)(), getattr(b, part)()) for part in parts)
    if a.layout == torch.sparse_coo:
        return a.is_coalesced() == b.is_coalesced() and same(a._indices(), b._indices()) and same(a._values(), b._values())
    if a.layout in (torch.sparse_csr, torch.sparse_bsr):
        return all(same(getattr(a, part)(), getattr(b, part)()) for part in ["crow_indices", "col_indices", "values"])
    if a.layout != torch.strided:
        return all(same(getattr(a, part)(), getattr(b, part)()) for part in ["ccol_indices", "row_indices", "values"])
    return bits(a) == bits(b)


def loads_safely(path):
    try:
        torch.load(path, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError):
        return False
    return True


def check(directory):
    names = [name[6:-3] for name in sorted(os.listdir(directory)) if name.startswith("again_")]
    report = {}
    for name in names:
        before, after = path_of(directory, name), path_of(directory, f"again_{name}")
        report[name] = {
            "equal": same(torch.load(before, weights_only=False), torch.load(after, weights_only=False)),
            "safe": [loads_safely(before), loads_safely(after)],
        }
    print(json.dumps(report))


{"make": make, "check": check}[sys.argv[1]](sys.argv[2])
