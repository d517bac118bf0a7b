"""The Python side of the safetensors tests.

    safetensors_files.py make DIR     writes files with the safetensors package into DIR
    safetensors_files.py check DIR    reads the files in DIR, and prints the bytes of their tensors
    safetensors_files.py judge FILES  says of each file whether the package reads it
"""

import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file, save_model

DTYPES = [
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64",
    "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz",
    "float8_e8m0fnu", "float4_e2m1fn_x2",
]  # fmt: skip


def pattern(dtype, *shape):
    """Elements made of defined bytes, so that every dtype is told apart bit by bit."""
    dtype = getattr(torch, dtype)
    count = torch.Size(shape).numel()
    if dtype == torch.bool:
        return torch.tensor([i % 3 == 0 for i in range(count)]).reshape(shape)
    return (torch.arange(dtype.itemsize * count) * 37 % 251).to(torch.uint8).view(dtype).reshape(shape)


def described(tensors):
    return {
        name: {
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": list(tensor.shape),
            "bytes": bytes(tensor.contiguous().flatten().view(torch.uint8).tolist()).hex(),
        }
        for name, tensor in tensors.items()
    }


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = torch.nn.Embedding(5, 4)
        self.head = torch.nn.Linear(4, 5, bias=False)
        self.head.weight = self.wte.weight


def files():
    names = ["é", 'quote"', "back\\slash", "tab\t", "\x01\x7f", "\u2028", "\uffff", "😀", "a/b", "", "__proto__"]
    return {
        "dtypes": ({dtype: pattern(dtype, 2, 3) for dtype in DTYPES}, None),
        "names": ({name: torch.full((1,), float(i)) for i, name in enumerate(names)}, {"format": "pt"}),
        "shapes": (
            {
                "scalar": torch.tensor(7.0),
                "empty": torch.zeros(0, 3),
                "ones": torch.ones(1, 1, 1),
                "odd": pattern("uint8", 3),
                "flag": torch.tensor([True]),
            },
            {'key "x"\n': "välue\u0000\x1f"},
        ),
        "nothing": ({}, None),
        "many": ({f"layer.{i}.w": pattern("float32", i % 50) for i in range(300)}, None),
        "large": ({"a": pattern("float32", 400, 300), "b": pattern("bfloat16", 333, 333), "c": pattern("int8", 7)}, None),
    }


def make(directory):
    out = {}
    for name, (tensors, metadata) in files().items():
        save_file(tensors, directory / f"{name}.safetensors", metadata=metadata)
        out[name] = described(tensors)
    torch.manual_seed(0)
    tied = Tied()
    save_model(tied, str(directory / "tied.safetensors"))
    out["tied"] = described({"weight": tied.wte.weight.detach()})
    print(json.dumps(out))


def check(directory):
    out = {}
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            out[path.stem] = {"tensors": described(load_file(path)), "metadata": file.metadata()}
    print(json.dumps(out))


def judge(paths):
    def reads(path):
        try:
            load_file(path)
            return True
        except Exception:
            return False

    print(json.dumps([reads(path) for path in paths]))


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    if command == "judge":
        judge(json.load(sys.stdin))
    else:
        {"make": make, "check": check}[command](Path(rest[0]))
