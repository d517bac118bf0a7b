"""
Values and files that torch.load opens and that few programs write.

    others.py make DIRECTORY     writes the files; prints what Python says of some
    others.py check DIRECTORY    compares again_NAME.pt, which torchbind wrote, with NAME.pt
"""

import collections
import io
import json
import os
import pickle
import sys
import types
import zipfile

import numpy as np
import torch
from torch import nn


def module_of(name, **classes):
    """Classes of a package that is not installed."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:length]), types.ModuleType(parts[length - 1]))
    for key, value in classes.items():
        value.__module__, value.__qualname__ = name, key
        setattr(sys.modules[name], key, value)


class AttributeDict(dict):
    pass


class Settings(dict):
    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.frozen = True


class Weights(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(3, 2)


module_of("lightning.fabric.utilities.data", AttributeDict=AttributeDict)
module_of("some_program.config", Settings=Settings, Weights=Weights)


def path_of(directory, name):
    return os.path.join(directory, f"{name}.pt")


def values():
    weight = torch.arange(6.0).view(2, 3)
    shared = torch.arange(4, dtype=torch.int16)
    empty = AttributeDict()
    hyper = AttributeDict(lr=1e-3, layers=[1, 2], nested=AttributeDict(a=(1, None)), empty=empty, again=empty)
    return {
        "layouts": {"layouts": [torch.strided, torch.sparse_coo, torch.sparse_csc, torch._mkldnn, torch.jagged]}
        | {"schemes": [torch.per_tensor_affine, torch.per_channel_symmetric], "class": collections.OrderedDict},
        "storages": {"untyped": weight.untyped_storage(), "typed": shared.storage(), "view": shared[1:], "w": torch.ones(2)},
        "lightning": {"state_dict": {"w": weight}, "hyper_parameters": hyper},
        "subclass": {"settings": Settings(a=1, b=weight), "one": Settings(a=2)},
        "numpy_text": {"n": np.array(["a", "bcd"]), "bytes": np.array([b"xy"]), "w": weight},
        "numpy_object": {"n": np.array([[1], "x", None], dtype=object), "w": weight},
        "numpy_date": {"n": np.array(["2024-01-02", "NaT"], dtype="M8[ms]"), "d": np.datetime64("2024-01-02", "D"), "w": weight},
        "numpy_record": {"n": np.array([(1.5, "a")], dtype=[("x", "f4"), ("y", "U2")]), "t": np.dtype("f4"), "w": weight},
    }


def make(directory):
    for name, value in values().items():
        torch.save(value, path_of(directory, name))
    # At the top of each protocol, where arrays lie in one piece.
    torch.save(values()["numpy_object"], path_of(directory, "protocol5"), pickle_protocol=5)
    model = Weights()
    torch.save({"model": model, "w": model.lin.weight}, path_of(directory, "module"), _use_new_zipfile_serialization=False)
    for name, new in [("tail_zip", True), ("tail_stream", False)]:
        torch.save({"w": torch.arange(5.0)}, path_of(directory, name), _use_new_zipfile_serialization=new)
        with open(path_of(directory, name), "ab") as file:
            file.write(bytes(1000))
        assert torch.load(path_of(directory, name))["w"].tolist() == [0, 1, 2, 3, 4]
    others(directory)
    print(json.dumps([pairs(text) for text in json.load(sys.stdin)]))


def pairs(text):
    """The items of a pickled dict, as Python has them."""
    return [[repr(key), repr(value)] for key, value in pickle.loads(text.encode("latin1")).items()]


def others(directory):
    """Files that torch.save did not write."""
    at = lambda name: os.path.join(directory, name)
    np.save(at("array.npy"), np.arange(5))
    np.savez(at("arrays.npz"), a=np.arange(3))
    for protocol in (0, 1, 2):
        with open(at(f"plain{protocol}.pkl"), "wb") as file:
            pickle.dump({"lr": 1e-3, "layers": [1, 2]}, file, protocol=protocol)
    with zipfile.ZipFile(at("agent.zip"), "w") as archive:
        archive.writestr("data", "{}")
        archive.writestr("policy.pth", "x")
    torch.save({"w": torch.ones(1), "rows": slice(0, 3)}, at("slice.pt"))
    torch.jit.script(nn.Linear(2, 2)).save(at("script.pt"))
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), at("exported.pt2"))
    import torch.distributed.checkpoint as dcp

    dcp.save({"model": {"w": torch.ones(3)}}, checkpoint_id=at("distributed"))


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.tolist() == b.tolist()
    if isinstance(a, (torch.storage.TypedStorage, torch.UntypedStorage)):
        return a.dtype == b.dtype and a.tolist() == b.tolist()
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and repr(a) == repr(b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(map(same, a.values(), b.values())) and vars_of(a) == vars_of(b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)


def vars_of(value):
    return getattr(value, "__dict__", None)


def check(directory):
    loaded = lambda name: torch.load(path_of(directory, name), weights_only=False)
    print(json.dumps({name: same(loaded(name), loaded(f"again_{name}")) for name in values()}))


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]](sys.argv[2])
