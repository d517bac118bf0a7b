"""The Python side of the .pt tests.

    pt_files.py make DIR     writes files with torch.save into DIR, and prints what tensors are in them
    pt_files.py check DIR    reads files that torchbind saved into DIR, with weights_only=True, and prints what it found
"""

import collections
import json
import os
import sys
import zipfile

import torch
from torch import nn

DTYPES = [
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
    "complex64", "complex128", "complex32", "uint16", "uint32", "uint64",
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
]  # fmt: skip


def pattern(dtype, count=6):
    """Elements made of defined bytes, so that every dtype is told apart bit by bit."""
    dtype = getattr(torch, dtype)
    size = dtype.itemsize * count
    if dtype == torch.bool:
        return torch.tensor([i % 3 == 0 for i in range(count)])
    return (torch.arange(size) * 37 % 251).to(torch.uint8).view(dtype)


def hexed(tensor):
    """Bytes of the elements in row-major order."""
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous()
    return flat.view(-1).view(torch.uint8).numpy().tobytes().hex() if flat.numel() else ""


def describe(tensor):
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "strides": list(tensor.stride()),
        "offset": tensor.storage_offset(),
        "storage": tensor.untyped_storage().nbytes(),
        "requires_grad": tensor.requires_grad,
        "parameter": isinstance(tensor, nn.Parameter),
        "bytes": hexed(tensor),
    }


def views():
    base = torch.arange(24, dtype=torch.float32)
    return {
        "base": base,
        "rows": base.view(4, 6)[1:3],
        "transposed": base.view(4, 6).t(),
        "stepped": base[3::4],
        "expanded": base[5].expand(3, 2),
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 3),
        "tail": base[24:],
        "conj": torch.tensor([1 + 2j, 3 - 4j]).conj(),
        "imag_of_conj": torch.tensor([1 + 2j, 3 - 4j]).conj().imag,
    }


def module():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    model.register_buffer("steps", torch.tensor(7))
    return model


def trained():
    model = module()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=1)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
    return model, optimizer


def nested():
    return {
        "list": [1, [2.0, (3, "four", None)], {"five": {5, 6}}],
        "ints": [2**53, 2**70, -(2**70), -1],
        "float": 1.0,
        "text": "\u20ac\n",
        "bytes": b"\x00\xff",
        7: True,
        (1, "a"): torch.Size([2, 3]),
        "dtype": torch.bfloat16,
        "device": torch.device("cuda", 1),
        "complex": 1 - 2j,
    }


def make(directory):
    def write(name, value, **options):
        torch.save(value, os.path.join(directory, f"{name}.pt"), **options)

    model, optimizer = trained()
    dtypes = {name: pattern(name) for name in DTYPES}
    parameters = [nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.zeros(3), requires_grad=False), torch.ones(1, requires_grad=True)]
    parameters[0].note = "an attribute"
    tagged = torch.ones(2)
    tagged.note = "an attribute"
    write("dtypes", dtypes)
    write("views", views())
    write("module", model.state_dict())
    write("optimizer", optimizer.state_dict())
    write("nested", nested())
    write("parameters", parameters)
    write("tagged", tagged)
    write("small", {"w": torch.arange(3.0)})
    for protocol in range(1, 6):
        write(f"protocol{protocol}", {"module": model.state_dict(), "nested": nested()}, pickle_protocol=protocol)
    write("module_object", model)
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), os.path.join(directory, "script.pt"))
    torch.serialization.set_crc32_options(False)
    write("no_crc", {"w": torch.arange(3.0)})
    torch.serialization.set_crc32_options(True)
    with torch.serialization.skip_data():
        write("zip64", [torch.empty(1 << 30), torch.ones(2), torch.empty(0), torch.ones(3)])
    big_endian(directory, dtypes)
    deflated(directory)
    print(json.dumps({
        "dtypes": {name: describe(tensor) for name, tensor in dtypes.items()},
        "views": {name: describe(tensor) for name, tensor in views().items()},
        "module": {name: describe(tensor) for name, tensor in model.state_dict().items()},
        "moments": {i: {name: describe(t) for name, t in state.items()} for i, state in optimizer.state_dict()["state"].items()},
        "parameters": [describe(tensor) for tensor in parameters],
    }))  # fmt: skip


def rewrite(source, target, change, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, change(name.split("/", 1)[1], old.read(name)))


def big_endian(directory, dtypes):
    """The dtypes that have a storage class of their own, with every storage's bytes turned round."""
    units = {"complex64": 4, "complex128": 8}
    typed = {name: tensor for name, tensor in dtypes.items() if tensor.dtype not in torch.storage._new_dtypes()}
    torch.save(typed, os.path.join(directory, "little.pt"))
    order = list(typed)

    def change(name, data):
        if name == "byteorder":
            return b"big"
        if not name.startswith("data/"):
            return data
        dtype = order[int(name[5:])]
        unit = units.get(dtype, typed[dtype].element_size())
        return b"".join(data[i : i + unit][::-1] for i in range(0, len(data), unit))

    rewrite(os.path.join(directory, "little.pt"), os.path.join(directory, "big.pt"), change)


def deflated(directory):
    rewrite(os.path.join(directory, "module.pt"), os.path.join(directory, "deflated.pt"), lambda _, data: data, zipfile.ZIP_DEFLATED)


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.requires_grad == b.requires_grad and hexed(a) == hexed(b)
    if isinstance(a, collections.OrderedDict) and not same(a.__dict__, b.__dict__):
        return False
    if isinstance(a, dict):
        return list(map(repr, a)) == list(map(repr, b)) and all(same(x, y) for x, y in zip(a.values(), b.values()))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return repr(a) == repr(b)


def aligned(path):
    """Every record's data at a multiple of 64, checked in the bytes of the file themselves."""
    with open(path, "rb") as file, zipfile.ZipFile(path) as archive:
        offsets = []
        for info in archive.infolist():
            file.seek(info.header_offset + 26)
            lengths = file.read(4)
            offsets.append(info.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"))
        return all(offset % 64 == 0 for offset in offsets)


def check(directory):
    def again(name, **options):
        return torch.load(os.path.join(directory, f"again_{name}.pt"), weights_only=True, **options)

    def original(name):
        return torch.load(os.path.join(directory, f"{name}.pt"), weights_only=True)

    written = sorted(name for name in os.listdir(directory) if name.startswith("again_"))
    names = [name.removeprefix("again_").removesuffix(".pt") for name in written]
    report = {"equal": {name: same(again(name), original(name)) for name in names}}
    report["mmap"] = {name: same(again(name, mmap=True), original(name)) for name in names}
    torch.utils.serialization.config.load.calculate_storage_offsets = True
    report["computed_offsets"] = {name: same(again(name, mmap=True), original(name)) for name in names}
    torch.utils.serialization.config.load.calculate_storage_offsets = False
    paths = {name: os.path.join(directory, f"again_{name}.pt") for name in names}
    report["crc"] = {name: zipfile.ZipFile(path).testzip() is None for name, path in paths.items()}
    report["aligned"] = {name: aligned(path) for name, path in paths.items()}
    report["records"] = zipfile.ZipFile(paths["small"]).namelist()
    report["pickles"] = {
        name: pickle_of(paths[name]) == pickle_of(os.path.join(directory, f"{name}.pt")) for name in names
    }
    found = again("views")
    report["views"] = {name: describe(tensor) for name, tensor in found.items()}
    report["shared"] = found["base"].untyped_storage().data_ptr() == found["transposed"].untyped_storage().data_ptr()
    found["base"][0] = 99
    report["sharing_seen"] = found["transposed"][0, 0].item() == 99
    model, optimizer = trained()
    missing = module().load_state_dict(again("module"))
    report["strict"] = [list(missing.missing_keys), list(missing.unexpected_keys)]
    optimizer.load_state_dict(again("optimizer"))
    report["metadata"] = again("module")._metadata == model.state_dict()._metadata
    print(json.dumps(report))


def pickle_of(path):
    with zipfile.ZipFile(path) as archive:
        return archive.read(archive.namelist()[0])


{"make": make, "check": check}[sys.argv[1]](sys.argv[2])
