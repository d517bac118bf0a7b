"""What PyTorch's layers and initialisers give: initial weights from one seed, outputs and gradients."""

import math
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

SEED = 1234

LAYERS = {
    "linear": (lambda: nn.Linear(7, 5), (4, 7)),
    "linear without bias": (lambda: nn.Linear(7, 5, bias=False), (2, 3, 7)),
    "layer norm": (lambda: nn.LayerNorm(6), (4, 6)),
    "layer norm without bias": (lambda: nn.LayerNorm(6, bias=False), (4, 6)),
    "layer norm plain, two dimensions, eps": (lambda: nn.LayerNorm((3, 6), eps=1e-3, elementwise_affine=False), (4, 3, 6)),
    "gelu": (lambda: nn.GELU(), (4, 6)),
    "gelu tanh": (lambda: nn.GELU(approximate="tanh"), (4, 6)),
    "relu": (lambda: nn.ReLU(), (4, 6)),
    "dropout": (lambda: nn.Dropout(0.3), (40, 6)),
    "sequential": (lambda: nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 2))), (5, 3)),
}

INITS = {
    "kaiming uniform": lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5)),
    "kaiming uniform relu fan_out": lambda w: nn.init.kaiming_uniform_(w, mode="fan_out", nonlinearity="relu"),
    "kaiming normal": lambda w: nn.init.kaiming_normal_(w, a=0.1),
    "xavier uniform": lambda w: nn.init.xavier_uniform_(w, gain=nn.init.calculate_gain("tanh")),
    "xavier normal": lambda w: nn.init.xavier_normal_(w),
    "uniform": lambda w: nn.init.uniform_(w, -2, 3),
    "normal": lambda w: nn.init.normal_(w, 0.5, 0.02),
    "constant": lambda w: nn.init.constant_(w, 0.1),
    "ones": lambda w: nn.init.ones_(w),
    "zeros": lambda w: nn.init.zeros_(w),
}


def layer(make, shape):
    torch.manual_seed(SEED)
    module = make()
    x = torch.randn(shape, requires_grad=True)
    y = module(x)
    y.square().sum().backward()
    grads = {name: p.grad for name, p in module.named_parameters()}
    return {"state": module.state_dict(), "x": x.detach(), "y": y.detach(), "x_grad": x.grad, "grads": grads}


def initialised(init):
    torch.manual_seed(SEED)
    return init(torch.empty(24, 10, 3))


def functions():
    torch.manual_seed(SEED)
    logits, target = torch.randn(6, 9), torch.randint(9, (6,))
    target[2] = -100
    weight = torch.rand(9)
    table = torch.randn(9, 4)
    return {
        "logits": logits,
        "target": target,
        "weight": weight,
        "table": table,
        "mean": F.cross_entropy(logits, target),
        "sum": F.cross_entropy(logits, target, reduction="sum"),
        "none": F.cross_entropy(logits, target, reduction="none"),
        "weighted": F.cross_entropy(logits, target, weight=weight, label_smoothing=0.1),
        "ignore": F.cross_entropy(logits, target.clamp(min=0), ignore_index=0),
        "embedding": F.embedding(target.clamp(min=0), table),
        "layer_norm": F.layer_norm(logits, (9,), weight, None, 1e-3),
        "log_softmax": F.log_softmax(logits, dim=-1),
        "mse": F.mse_loss(logits, logits * 0.5),
        "mse_sum": F.mse_loss(logits, logits * 0.5, reduction="sum"),
    }


torch.save(
    {
        "layers": {name: layer(make, shape) for name, (make, shape) in LAYERS.items()},
        "inits": {name: initialised(init) for name, init in INITS.items()},
        "functions": functions(),
    },
    sys.argv[1],
)
