"""The Python side of corpus.mjs: reads paths as JSON, prints what is in each file, read with weights_only=True."""

import hashlib
import json
import os
import pickletools
import struct
import sys
import tarfile

import torch


def describe(value):
    if isinstance(value, torch.Tensor):
        flat = value.detach().flatten().clone(memory_format=torch.contiguous_format)
        data = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
        digest = hashlib.sha256(data).hexdigest()[:16]
        return f"{str(value.dtype)[6:]}[{','.join(map(str, value.shape))}]{digest}"
    if isinstance(value, dict):
        return "{" + " ".join(f"{describe(key)}:{describe(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(describe, value)) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, (int, float)):
        return str(round(value * 1e6))
    return str(value)


def tar_storages(path):
    """Hashes of the storages of a tar in their order: nothing is unpickled, the opcodes are only stepped over."""
    with tarfile.open(path) as tar:
        data = tar.extractfile("storages")
        count = next(argument for op, argument, _ in list(pickletools.genops(data)) if op.name == "BININT1")
        hashes = []
        for _ in range(count):
            text = [str(argument) for _, argument, _ in pickletools.genops(data)]
            size = next(SIZES[name] for name in SIZES if f"torch {name}Storage" in text)
            (numel,) = struct.unpack("<q", data.read(8))
            hashes.append(hashlib.sha256(data.read(numel * size)).hexdigest()[:16])
        return " ".join(hashes)


SIZES = {"Float": 4, "Double": 8, "Long": 8, "Int": 4, "Half": 2}


def values(path):
    if path.endswith(".tar"):
        return tar_storages(path)
    return describe(torch.load(path, weights_only=True, map_location="cpu"))


print(json.dumps({
    path: values(os.path.join(sys.argv[1], path)) for path in json.load(sys.stdin)
}))  # fmt: skip
