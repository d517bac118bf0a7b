"""Prints the public functions of torch, of its modules and of tensors, by module, as JSON."""

import json

import torch
import torch.nn.functional

KINDS = {
    "function",
    "builtin_function_or_method",
    "method_descriptor",
    "getset_descriptor",
    "wrapper_descriptor",
}
modules = {
    "torch": torch,
    "linalg": torch.linalg,
    "fft": torch.fft,
    "special": torch.special,
    "nn.functional": torch.nn.functional,
    "Tensor": torch.Tensor,
}
print(
    json.dumps(
        {
            name: [n for n in dir(module) if n[0] != "_" and type(getattr(module, n, None)).__name__ in KINDS]
            for name, module in modules.items()
        }
    )
)
