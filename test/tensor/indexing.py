"""Runs index expressions in Python: reads cases as JSON, prints shape and values, or the error's class, of each."""

import json
import sys

import torch


def build(item):
    kind, value = item
    if kind == "int" or kind == "bool":
        return value
    if kind == "slice":
        return slice(*value)
    if kind == "none":
        return None
    if kind == "ellipsis":
        return Ellipsis
    if kind == "mask":
        return torch.tensor(value, dtype=torch.bool)
    return torch.tensor(value, dtype=torch.int64)


def run(case):
    x = torch.arange(1, case["numel"] + 1, dtype=torch.float64).view(case["shape"])
    index = tuple(build(item) for item in case["index"])
    try:
        result = x[index]
    except Exception as error:
        return {"error": type(error).__name__}
    answer = {"shape": list(result.shape), "values": result.tolist()}
    answer["view"] = result.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    value = case["value"]
    if value == "rows":
        x[index] = -torch.arange(1, result.numel() + 1, dtype=torch.float64).view(result.shape)
    elif value == "last":
        x[index] = -torch.arange(1, (result.shape[-1] if result.dim() else 1) + 1, dtype=torch.float64)
    else:
        x[index] = value
    answer["written"] = x.flatten().tolist()
    return answer


print(json.dumps([run(case) for case in json.load(sys.stdin)]))
