"""The Python side of bench/formats.mjs: one request a line, one answer a line, {"seconds": ..., "check": ...}."""

import json
import os
import sys
import time

import torch
from safetensors.torch import load_file, save_file

MB = 2**20


def state_dict(kind):
    """512 MB in tensors as large as a GPT's, or 10,000 tensors of 16 numbers."""
    if kind == "tiny":
        return {f"layer.{i}.weight": torch.full((16,), float(i)) for i in range(10_000)}
    sizes = [128] + [16] * 24
    return {f"layer.{i}.weight": torch.full((size * MB // 4,), float(i)) for i, size in enumerate(sizes)}


values = {}


def make(request):
    value = values.setdefault(request["kind"], state_dict(request["kind"]))
    write(value, request)


def write(value, request):
    if request["format"] == "safetensors":
        save_file(value, request["path"])
    else:
        torch.save(value, request["path"])


def read(request):
    mmap = request.get("mmap", False)
    if request["format"] == "safetensors":
        return load_file(request["path"], backend="mmap" if mmap else "pread")
    return torch.load(request["path"], weights_only=True, mmap=mmap)


def load(request):
    value = read(request)
    return sum(tensor[-1].item() for tensor in value.values())


def save(request):
    write(values[request["kind"]], request)
    if request.get("sync"):
        with open(request["path"], "rb+") as file:
            os.fsync(file.fileno())


def timed(work, request):
    began = time.perf_counter()
    result = work(request)
    return {"seconds": time.perf_counter() - began, "check": result}


def describe(request):
    torch.set_num_threads(request["threads"])
    return torch.__version__


for line in sys.stdin:
    asked = json.loads(line)
    work = {"describe": describe, "make": make, "load": load, "save": save}[asked["work"]]
    print(json.dumps(timed(work, asked)), flush=True)
