"""What Python's autograd does, as JSON: hooks, custom functions, derivatives of derivatives, autocast."""

import json
import sys

import torch
from torch.autograd import Function


def numbers(tensor):
    return None if tensor is None else tensor.detach().double().flatten().tolist()


def ramp(*shape, dtype=torch.float64):
    count = 1
    for size in shape:
        count *= size
    return (torch.arange(count, dtype=torch.float64) / count - 0.4).reshape(shape).to(dtype)


def error_of(run):
    try:
        run()
    except Exception as error:
        return str(error)
    return None


def hooks():
    calls = []
    x = ramp(3).requires_grad_()
    y = x * x

    def named(name, factor=None):
        def hook(grad):
            calls.append([name, numbers(grad)])
            return None if factor is None else grad * factor

        return hook

    x.register_hook(named("leaf", 5))
    x.register_post_accumulate_grad_hook(lambda t: calls.append(["accumulated", numbers(t.grad)]))
    y.register_hook(named("first"))
    removed = y.register_hook(named("removed"))
    y.register_hook(named("doubles", 2))
    y.retain_grad()
    y.register_hook(named("last", 3))
    removed.remove()
    (y.sin()).sum().backward()
    before_in_place = x * 2
    before_in_place.register_hook(named("before the change"))
    before_in_place.mul_(3)
    before_in_place.register_hook(named("after the change"))
    x.grad = None
    before_in_place.sum().backward()
    return {"calls": calls, "y": numbers(y.grad), "x": numbers(x.grad)}


class Cubic(Function):
    """a ** 3 * scale and a * b: a number between tensors, two outputs."""

    @staticmethod
    def forward(ctx, a, scale, b):
        ctx.save_for_backward(a, b)
        ctx.scale = scale
        return a**3 * scale, a * b

    @staticmethod
    def backward(ctx, g, h):
        a, b = ctx.saved_tensors
        return 3 * a**2 * ctx.scale * g + b * h, None, a * h


def custom():
    a, b = ramp(4).requires_grad_(), (ramp(4) + 1).requires_grad_()
    y, z = Cubic.apply(a, 2.0, b)
    first = torch.autograd.grad((y * z).sum(), [a, b], create_graph=True)
    second = torch.autograd.grad((first[0] * first[1]).sum(), [a, b], create_graph=True)
    third = torch.autograd.grad(second[0].sum(), [a, b])
    only_y = torch.autograd.grad(Cubic.apply(a, 2.0, b)[0].sum(), [a, b])
    return {name: [numbers(t) for t in ts] for name, ts in {"values": (y, z), "first": first, "second": second, "third": third, "onlyY": only_y}.items()}


class Doubled(Function):
    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return a * 2

    @staticmethod
    def backward(ctx, g):
        (a,) = ctx.saved_tensors
        return g * 2


def errors():
    x = ramp(3).requires_grad_()

    def twice():
        y = Doubled.apply(x).sum()
        y.backward()
        y.backward()

    def changed():
        t = x * 1
        y = Doubled.apply(t)
        t.add_(1)
        y.sum().backward()

    def wrong_size():
        t = x * 1
        t.register_hook(lambda g: torch.ones(7, dtype=torch.float64))
        t.sum().backward()

    def not_leaf():
        (x * 1).register_post_accumulate_grad_hook(print)

    def mismatch():
        class Wrong(Function):
            @staticmethod
            def forward(ctx, a, b):
                return a * b

            @staticmethod
            def backward(ctx, g):
                return g * 3, g

        torch.autograd.gradcheck(lambda a, b: Wrong.apply(a, b), (x, x.detach().clone().requires_grad_()))

    return {name: error_of(run) for name, run in {"twice": twice, "changed": changed, "wrongSize": wrong_size, "notLeaf": not_leaf, "mismatch": mismatch}.items()}


def autocast(dtype):
    f32 = torch.float32
    a, b = ramp(4, 8, dtype=f32), ramp(8, 6, dtype=f32)
    batch = ramp(2, 4, 8, dtype=f32)
    weight, bias = ramp(6, 8, dtype=f32), ramp(6, dtype=f32)
    image, kernel = ramp(1, 2, 5, 5, dtype=f32), ramp(3, 2, 3, 3, dtype=f32)
    heads = ramp(1, 2, 4, 8, dtype=f32)
    target = torch.tensor([0, 5, 2, 1])
    low = a.to(dtype)
    nn = torch.nn.functional
    ops = {
        "mm": lambda: a.mm(b),
        "matmul": lambda: batch.matmul(b),
        "bmm": lambda: batch.bmm(batch.transpose(1, 2)),
        "addmm": lambda: torch.addmm(bias, a, b),
        "linear": lambda: nn.linear(a, weight, bias),
        "conv2d": lambda: nn.conv2d(image, kernel),
        "attention": lambda: nn.scaled_dot_product_attention(heads, heads, heads),
        "softmax": lambda: nn.linear(a, weight).softmax(-1),
        "logSoftmax": lambda: nn.linear(a, weight).log_softmax(-1),
        "layerNorm": lambda: nn.layer_norm(nn.linear(a, weight), [6]),
        "gelu": lambda: nn.gelu(nn.linear(a, weight)),
        "exp": lambda: a.mm(b).exp(),
        "sum": lambda: a.mm(b).sum(),
        "mixedAdd": lambda: low + a,
        "mixedCat": lambda: torch.cat([low, a]),
        "mixedStack": lambda: torch.stack([a, low]),
        "mse": lambda: nn.mse_loss(a.mm(b), a.mm(b) + 1),
        "crossEntropy": lambda: nn.cross_entropy(nn.linear(a, weight), target),
        "double": lambda: a.double().mm(b.double()),
        "prod": lambda: low.prod(),
    }
    results = {}
    with torch.autocast("cpu", dtype=dtype):
        for name, run in ops.items():
            try:
                result = run()
                results[name] = [str(result.dtype).replace("torch.", ""), numbers(result)]
            except RuntimeError as error:
                results[name] = str(error).split("\n")[0]
        with torch.autocast("cpu", enabled=False):
            results["nestedOff"] = [str(a.mm(b).dtype).replace("torch.", ""), numbers(a.mm(b))]
    w, v = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        loss = nn.cross_entropy(nn.gelu(nn.linear(a, w, v)), target)
        loss = loss + nn.linear(a, w).float().pow(2).mean()
    loss.backward()
    results["weightGradient"] = [str(w.grad.dtype).replace("torch.", ""), numbers(w.grad)]
    results["biasGradient"] = [str(v.grad.dtype).replace("torch.", ""), numbers(v.grad)]
    return results


torch.set_num_threads(1)
if sys.argv[1] == "autocast":
    print(json.dumps({"bfloat16": autocast(torch.bfloat16), "float16": autocast(torch.float16)}))
else:
    print(json.dumps({"hooks": hooks(), "custom": custom(), "errors": errors()}))
