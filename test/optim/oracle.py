"""Runs of PyTorch's optimizers from given gradients: the weights after each step and the state dict at the end.

    python oracle.py OUT.pt           the reference runs
    python oracle.py --resume IN.pt OUT.pt   a step of each class of torch.optim from the state dict that Node saved
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


def adam(**options):
    return lambda params: torch.optim.Adam(params, **options)


def adam_groups(params):
    first = {"params": params[:1], "lr": 1e-2, "weight_decay": 0.1, "decoupled_weight_decay": True}
    second = {"params": params[1:], "betas": (0.8, 0.95), "eps": 1e-6}
    return torch.optim.Adam([first, second], lr=3e-3, weight_decay=0.2, fused=True)


def adagrad(**options):
    return lambda params: torch.optim.Adagrad(params, **options)


def adagrad_groups(params):
    first = {"params": params[:1], "lr": 1e-1, "lr_decay": 0.01}
    return torch.optim.Adagrad([first, {"params": params[1:]}], initial_accumulator_value=0.5, fused=True)


RUNS = {
    "adamw": adamw(lr=1e-2, fused=True),
    "adamw amsgrad": adamw(lr=1e-2, amsgrad=True, weight_decay=0.3, fused=True),
    "adamw maximize": adamw(lr=1.0, maximize=True, weight_decay=0.0, fused=True),
    "adamw groups": adamw_groups,
    "adamw by foreach": adamw(lr=1e-2),
    "adamw one by one": adamw(lr=1e-2, foreach=False),
    "adam": adam(lr=1e-2, fused=True),
    "adam decay": adam(lr=1e-2, weight_decay=0.1, fused=True),
    "adam amsgrad": adam(lr=1e-2, amsgrad=True, maximize=True, fused=True),
    "adam groups": adam_groups,
    "adam by foreach": adam(lr=1e-2, weight_decay=0.1),
    "adam one by one": adam(lr=1e-2, weight_decay=0.1, foreach=False),
    "adagrad": adagrad(lr=0.1, fused=True),
    "adagrad decay": adagrad(lr=0.1, lr_decay=0.1, weight_decay=0.05, eps=1e-6, fused=True),
    "adagrad maximize": adagrad(maximize=True, initial_accumulator_value=0.3, fused=True),
    "adagrad groups": adagrad_groups,
    "adagrad by foreach": adagrad(lr=0.1, lr_decay=0.1, weight_decay=0.05, eps=1e-6),
    "adagrad one by one": adagrad(lr=0.1, lr_decay=0.1, weight_decay=0.05, eps=1e-6, foreach=False),
    "sgd": sgd(lr=0.1),
    "sgd momentum": sgd(lr=0.01, momentum=0.9, dampening=0.2, weight_decay=0.01),
    "sgd nesterov": sgd(lr=0.1, momentum=0.9, nesterov=True, maximize=True),
    "sgd one by one": lambda params: torch.optim.SGD(
        params, lr=0.01, momentum=0.9, dampening=0.2, weight_decay=0.01, foreach=False
    ),
}

# Every class of torch.optim, as its state dict is after one step and before any.
CLASSES = {
    **{name: {} for name in ("Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Muon", "NAdam", "RAdam")},
    **{name: {} for name in ("RMSprop", "Rprop", "SparseAdam", "LBFGS", "ASGD")},
    "SGD": {"momentum": 0.9},
    "Adam amsgrad": {"amsgrad": True},
    "Adam decoupled": {"decoupled_weight_decay": True},
    "RMSprop centered": {"centered": True, "momentum": 0.9},
    "SGD plain": {},
}


def state_dicts(name, options):
    params = [torch.nn.Parameter(torch.ones(3, 2))]
    optimizer = getattr(torch.optim, name.split()[0])(params, **options)
    fresh = optimizer.state_dict()
    fresh = {"state": dict(fresh["state"]), "param_groups": fresh["param_groups"]}

    def closure():
        optimizer.zero_grad()
        loss = (params[0] ** 2).sum()
        loss.backward()
        return loss

    closure()
    if name == "SparseAdam":
        params[0].grad = params[0].grad.to_sparse()
    optimizer.step(closure) if name == "LBFGS" else optimizer.step()
    return [fresh, optimizer.state_dict()]


def run(make, initial, gradients):
    params = [torch.nn.Parameter(w.clone()) for w in initial]
    optimizer = make(params)
    trace = []
    for step, row in enumerate(gradients):
        # The last parameter gets no gradient at first: its state begins later. (PyTorch's fused SGD fails at that.)
        late = not isinstance(optimizer, torch.optim.SGD) and step < 5
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
            "classes": {name: state_dicts(name, options) for name, options in CLASSES.items()},
            "clips": [{"max_norm": m, "norm_type": t, **clipped(gradients[0], m, t)} for m, t in clips],
        },
        out,
    )


def resumed(name, saved):
    params = [torch.nn.Parameter(w.clone()) for w in saved["weights"]]
    optimizer = getattr(torch.optim, name)([{"params": params[:1]}, {"params": params[1:]}])
    optimizer.load_state_dict(saved["optimizer"])
    for group in optimizer.param_groups:
        group["fused"] = True  # the file says nothing of the kernel, and the other ones round differently
    for p, g in zip(params, saved["gradients"]):
        p.grad = g
    optimizer.step()
    return {"weights": [p.detach() for p in params], "state": optimizer.state_dict()}


def resume(file, out):
    saved = torch.load(file, weights_only=True)
    torch.save({name: resumed(name, entry) for name, entry in saved.items()}, out)


if sys.argv[1] == "--resume":
    resume(sys.argv[2], sys.argv[3])
else:
    reference(sys.argv[1])
