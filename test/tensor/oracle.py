"""What PyTorch gives for the expressions that test/tensor compares: one JSON document."""

import json

import torch


def describe(value):
    if isinstance(value, torch.Tensor):
        return {"dtype": str(value.dtype)[6:], "shape": list(value.shape), "values": value.tolist(), "text": repr(value)}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    return value


def main():
    torch.manual_seed(7)
    x = torch.arange(6, dtype=torch.float32).view(2, 3)
    ids = torch.tensor([3, 1, 2])
    half = torch.tensor([1.5, -2.25, 1e-5], dtype=torch.float16)
    cases = {
        "randn": torch.randn(3, 2),
        "rand": torch.rand(5),
        "randint": torch.randint(-4, 9, (6,)),
        "randperm": torch.randperm(10),
        "normal_": torch.empty(20).normal_(1, 2),
        "arange": torch.arange(2, 11, 3),
        "linspace": torch.linspace(0, 1, 5),
        "eye": torch.eye(2, 3),
        "int_tensor": torch.tensor([[1, 2], [3, 4]]),
        "float_tensor": torch.tensor([1.5, 2, 3]),
        "bool_tensor": torch.tensor([True, False]),
        "full_int": torch.full((2,), 3),
        "int_plus_float": ids + 0.5,
        "int_div": ids.div(2),
        "int_floor_div": ids.div(2, rounding_mode="floor"),
        "half_times_int": half * 2,
        "half_plus_float": half + torch.ones(3),
        "sum_dim": x.sum(-1, keepdim=True),
        "mean": x.mean(),
        "max_dim": x.max(1),
        "topk": ids.topk(2),
        "sort": ids.sort(descending=True),
        "where": torch.where(x > 2, x, 0.0),
        "masked_fill": x.masked_fill(x > 3, float("-inf")),
        "softmax": x.softmax(-1),
        "cat": torch.cat([x, x], 1),
        "stack": torch.stack([ids, ids]),
        "split": x.split([1, 2], 1),
        "chunk": x.chunk(3, -1),
        "std": x.std(),
        "var_dim": x.var(1, unbiased=False),
        "add_alpha": x.add(x, alpha=3),
        "clamp": x.clamp(min=1, max=4),
        "permute": x.permute(1, 0),
        "scientific": torch.tensor([1e-7, 1.0]),
        "special": torch.tensor([float("nan"), float("inf"), 1.0]),
        "wide_range": torch.tensor([1.0, 5000.0]),
        "zeros_and_inf": torch.tensor([0.0, float("-inf")]),
        "negative": torch.tensor([[-1.0, 0.25], [10.5, 3.0]]),
        "long": torch.arange(3000),
        "long_matrix": torch.zeros(1200, 3),
        "bfloat16": torch.tensor([[1.0, 2.5]], dtype=torch.bfloat16),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3),
        "three_d": torch.arange(8).view(2, 2, 2),
    }
    y = torch.tensor([0.5, -1.0, 2.0], requires_grad=True)
    (y * y).sum().backward()
    cases["grad"] = y.grad
    z = torch.tensor([2.0], requires_grad=True)
    (first,) = torch.autograd.grad(z**3, z, create_graph=True)
    (second,) = torch.autograd.grad(first, z)
    cases["second_derivative"] = second
    text = json.dumps({name: describe(value) for name, value in cases.items()})
    # JSON has no such words; 1e999 reads back as infinity.
    print(text.replace("NaN", "null").replace("Infinity", "1e999"))


main()
