"""Type promotion, ranges and casts as PyTorch has them, for every pair of dtypes."""

import json
import warnings

import torch

warnings.simplefilter("ignore")
NAMES = """uint8 int8 int16 int32 int64 uint16 uint32 uint64 bool float16 bfloat16 float32 float64
complex32 complex64 complex128""".split()
FLOATS = """float16 bfloat16 float32 float64 float8_e5m2 float8_e4m3fn float8_e5m2fnuz float8_e4m3fnuz float8_e8m0fnu
complex32 complex64 complex128""".split()
SCALARS = {"bool": True, "int": 3, "float": 1.5, "complex": 1j}
OPERATORS = ["add", "mul", "div", "sub", "pow", "maximum", "eq", "floor_divide", "remainder", "bitwise_and"]


def dtype_of(function):
    try:
        return str(function().dtype)[6:]
    except Exception:
        return "error"


def main():
    of = {name: getattr(torch, name) for name in set(NAMES + FLOATS)}
    one = {name: torch.ones(2).to(of[name]) for name in NAMES}
    zero_dim = {name: torch.ones(()).to(of[name]) for name in NAMES}
    answer = {"promote": {}, "cast": {}, "operators": {}, "zeroDim": {}, "scalars": {}, "finfo": {}, "iinfo": {}}
    for a in NAMES:
        for b in NAMES:
            key = f"{a} {b}"
            try:
                answer["promote"][key] = str(torch.promote_types(of[a], of[b]))[6:]
            except Exception:
                answer["promote"][key] = "error"
            answer["cast"][key] = torch.can_cast(of[a], of[b])
            answer["zeroDim"][key] = dtype_of(lambda: one[a].add(zero_dim[b]))
            for op in OPERATORS:
                answer["operators"][f"{op} {key}"] = dtype_of(lambda: getattr(torch, op)(one[a], one[b]))
        for kind, scalar in SCALARS.items():
            answer["scalars"][f"{a} {kind}"] = dtype_of(lambda: one[a].add(scalar))
    for name in FLOATS:
        i = torch.finfo(of[name])
        answer["finfo"][name] = [i.bits, i.eps, i.max, i.min, i.tiny, i.smallest_normal, i.resolution, i.dtype]
    for name in NAMES[:8]:
        i = torch.iinfo(of[name])
        answer["iinfo"][name] = [i.bits, str(i.min), str(i.max), i.dtype]
    print(json.dumps(answer))


main()
