"""Runs of PyTorch's optimizers from given gradients: the weights after each step and the state dict at the end.

    python oracle.py OUT.pt           the reference runs
    python oracle.py --resume IN.pt OUT.pt   goes on, as PyTorch does, from a state dict that Node saved
"""

import sys

import torch

STEPS = 20
SHAPES = [(5, 3), (7,), (2, 3, 4)]


def adamw(**options):
    return lambda params: torch.optim.AdamW(params, **options)


def adamw_groups(params):
    first = {"params": params[:1], "lr": 1e-2, "weight_decay": 0.1}
    second = {"params": params[1:], "weight_decay": 0.0, "betas": (0.8, 0.95), "eps": 1e-6}
    return torch.optim.AdamW([first, second], lr=3e-3, fused=True)


def sgd(**options):
    return lambda params: torch.optim.SGD(params, fused=True, **options)


RUNS = {
    "adamw": adamw(lr=1e-2, fused=True),
    "adamw amsgrad": adamw(lr=1e-2, amsgrad=True, weight_decay=0.3, fused=True),
    "adamw maximize": adamw(lr=1.0, maximize=True, weight_decay=0.0, fused=True),
    "adamw groups": adamw_groups,
    "adamw by foreach": adamw(lr=1e-2),
    "adamw one by one": adamw(lr=1e-2, foreach=False),
    "sgd": sgd(lr=0.1),
    "sgd momentum": sgd(lr=0.1, momentum=0.9, dampening=0.2, weight_decay=0.01),
    "sgd nesterov": sgd(lr=0.1, momentum=0.9, nesterov=True, maximize=True),
}


def run(make, initial, gradients):
    params = [torch.nn.Parameter(w.clone()) for w in initial]
    optimizer = make(params)
    trace = []
    for step, row in enumerate(gradients):
        # The last parameter gets no gradient at first: its state begins later. (PyTorch's fused SGD fails at that.)
        late = isinstance(optimizer, torch.optim.AdamW) and step < 5
        for i, (p, g) in enumerate(zip(params, row)):
            p.grad = None if i == 2 and late else g.clone()
        optimizer.step()
        trace.append([p.detach().clone() for p in params])
    return {"weights": trace, "state": optimizer.state_dict()}


def clipped(gradients, max_norm, norm_type):
    params = [torch.nn.Parameter(torch.zeros_like(g)) for g in gradients]
    for p, g in zip(params, gradients):
        p.grad = g.clone()
    norm = torch.nn.utils.clip_grad_norm_(params, max_norm, norm_type)
    return {"norm": norm, "gradients": [p.grad for p in params]}


def reference(out):
    torch.manual_seed(7)
    initial = [torch.randn(shape) for shape in SHAPES]
    gradients = [[torch.randn(shape) * 3 for shape in SHAPES] for _ in range(STEPS)]
    clips = [(1.0, 2.0), (1000.0, 2.0), (0.5, float("inf")), (0.5, 1.0)]
    torch.save(
        {
            "initial": initial,
            "gradients": gradients,
            "runs": {name: run(make, initial, gradients) for name, make in RUNS.items()},
            "clips": [{"max_norm": m, "norm_type": t, **clipped(gradients[0], m, t)} for m, t in clips],
        },
        out,
    )


def resume(file, out):
    saved = torch.load(file, weights_only=True)
    params = [torch.nn.Parameter(w.clone()) for w in saved["weights"]]
    optimizer = torch.optim.AdamW([{"params": params[:1]}, {"params": params[1:]}])
    optimizer.load_state_dict(saved["optimizer"])
    for group in optimizer.param_groups:
        group["fused"] = True  # the file says nothing of the kernel, and the other ones round differently
    for p, g in zip(params, saved["gradients"]):
        p.grad = g
    optimizer.step()
    torch.save({"weights": [p.detach() for p in params], "state": optimizer.state_dict()}, out)


if sys.argv[1] == "--resume":
    resume(sys.argv[2], sys.argv[3])
else:
    reference(sys.argv[1])
