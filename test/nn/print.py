"""What Python's repr gives for modules."""

import json

import torch.nn as nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.mlp = nn.Sequential(nn.Linear(4, 8), nn.GELU(approximate="tanh"), nn.Linear(8, 4, bias=False))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.blocks = nn.ModuleList([Block(), Block(), Block()])
        self.mixed = nn.ModuleList([nn.ReLU(), nn.ReLU(), nn.Dropout(0.1), nn.ReLU()])
        self.head = nn.Linear(4, 10)


class Noted(nn.Module):
    def extra_repr(self):
        return "first=1\nsecond=2"


class Parent(nn.Module):
    def __init__(self):
        super().__init__()
        self.child = Noted()

    def extra_repr(self):
        return "size=3"


MODULES = [
    nn.Module(),
    nn.Linear(7, 5),
    nn.Linear(7, 5, bias=False),
    nn.Embedding(10, 3),
    nn.Embedding(10, 3, padding_idx=-1),
    nn.LayerNorm(6),
    nn.LayerNorm((3, 6), eps=1e-3, elementwise_affine=False),
    nn.LayerNorm(6, bias=False, eps=1.25e-12),
    nn.RMSNorm(6),
    nn.RMSNorm((3, 6), eps=1e-6, elementwise_affine=False),
    nn.Dropout(),
    nn.Dropout(0.0),
    nn.Dropout(1.0),
    nn.Dropout(1e-7),
    nn.GELU(),
    nn.GELU(approximate="tanh"),
    nn.ReLU(),
    nn.Sequential(),
    nn.Sequential(nn.ReLU(), nn.ReLU(), nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.25))),
    nn.ModuleList(),
    nn.ModuleList([nn.Linear(2, 2)]),
    nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 3)]),
    nn.ModuleList([nn.ModuleList([nn.ReLU()]), nn.ModuleList([nn.ReLU()])]),
    Noted(),
    Parent(),
    Net(),
]

print(json.dumps([repr(module) for module in MODULES]))
