"""Prints of tensors whose lines are full, or that hold little."""
import json

import torch

torch.manual_seed(0)
cases = {
    "lines of floats": torch.arange(30.0) / 7,
    "a line that is just full": torch.zeros(18),
    "a line that is one too long": torch.zeros(19),
    "wide rows": torch.arange(50.0).view(2, 25) * 1000,
    "a long row, shortened": torch.arange(2000.0) / 3,
    "a large matrix, shortened": torch.arange(10000.0).view(100, 100),
    "shortened in three dimensions": torch.arange(8000).view(20, 20, 20),
    "integers": torch.arange(25) * 1000003,
    "booleans": torch.arange(20) % 3 == 0,
    "complex": torch.view_as_complex(torch.arange(24.0).view(12, 2) / 8),
    "complex in double precision": torch.ones(2, dtype=torch.complex128),
    "no elements": torch.zeros(0),
    "no integers": torch.zeros(0, dtype=torch.int64),
    "no booleans in two dimensions": torch.zeros(2, 0, dtype=torch.bool),
    "half precision": torch.zeros(3, dtype=torch.float16),
    "not finite": torch.tensor([float("nan"), float("inf"), -2.5]),
}
print(json.dumps({name: str(value) for name, value in cases.items()}))
