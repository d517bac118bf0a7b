"""Pickles of every protocol, and back: prints {"pickles": [...]}; with an argument, compares pickles of torchbind's with Python's own."""

import collections
import io
import json
import pickle
import sys

import torch
from torch._weights_only_unpickler import Unpickler


def samples():
    shared = ["x"]
    cycle = [1]
    cycle.append(cycle)
    ordered = collections.OrderedDict(b=1, a=2)
    ordered._metadata = collections.OrderedDict([("", {"version": 1})])
    deep = []
    for _ in range(5000):
        deep = [deep]
    return {
        "none": None,
        "bools": [True, False],
        "ints": [0, 1, 255, 256, 65535, 65536, -1, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**53 - 1, 2**53, -(2**53), 2**63, 2**70, -(2**70)],
        "floats": [0.5, 1.0, -0.0, 1e300, 5e-324, float("inf"), float("-inf")],
        "strings": ["", "a", "é\n'\"\\", "\u20ac \U0001f600", "\ud800x", "x" * 300],
        "bytes": [b"", b"ab\x00\xff", bytes(range(256)) * 2],
        "bytearray": bytearray(b"\x00\xfe"),
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "dict": {"a": 1, 2: "b", None: 0, (1, "t"): [], b"k": 1.5, True: "yes"},
        "large_dict": {i: str(i) for i in range(2001)},
        "large_list": list(range(3001)),
        "set": {7},
        "complex": 1.5 - 2j,
        "counter": collections.Counter("aab"),
        "ordered": ordered,
        "shared": [shared, shared, (shared,)],
        "cycle": cycle,
        "deep": deep,
        "size": torch.Size([2, 3]),
        "dtypes": [torch.float32, torch.bfloat16, torch.uint16, torch.float8_e4m3fn, torch.bool],
        "devices": [torch.device("cpu"), torch.device("cuda:1")],
    }


def equal(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, collections.OrderedDict) and not equal(a.__dict__, b.__dict__):
        return False
    if isinstance(a, dict):
        return list(map(repr, a)) == list(map(repr, b)) and all(equal(x, y) for x, y in zip(a.values(), b.values()))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b))
    return repr(a) == repr(b)


def check(name, written, value):
    loaded = Unpickler(io.BytesIO(written), encoding="utf-8").load()
    if name == "cycle":
        same = loaded[0] == 1 and loaded[1] is loaded
    elif name == "deep":
        depth = 0
        while loaded:
            loaded, depth = loaded[0], depth + 1
        same = depth == 5000
    else:
        same = equal(loaded, value)
    if name == "shared":
        same = same and loaded[0] is loaded[1] is loaded[2][0]
    try:
        identical = written == pickle.dumps(value, protocol=2)
    except RecursionError:
        identical = None
    return {"equal": same, "identical": identical}


if len(sys.argv) > 1:
    with open(sys.argv[1]) as file:
        written = {name: bytes.fromhex(text) for name, text in json.load(file).items()}
    print(json.dumps({name: check(name, written[name], value) for name, value in samples().items()}))
else:
    sys.setrecursionlimit(20000)
    pickles = []
    for name, value in samples().items():
        for protocol in range(6):
            try:
                pickles.append({"name": name, "protocol": protocol, "hex": pickle.dumps(value, protocol=protocol).hex()})
            except RecursionError:
                pass
    print(json.dumps(pickles))
