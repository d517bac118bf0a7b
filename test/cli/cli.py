"""The Python side of test/cli/*.test.ts.

    python cli.py write OUT     OUT/checkpoints: models of MyPT, new and old; OUT/numbered: files of build_llm_karpathy;
                                OUT/gpt2: a small GPT-2 of Hugging Face, with the vocabulary of the real one
    python cli.py read BUNDLE   step and keys of a bundle, as JSON
    python cli.py single FILE   the same of a single-file checkpoint
"""

import json
import sys
from datetime import datetime
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoint"))

import samples  # noqa: E402
import single_files  # noqa: E402


def write(out):
    (out / "checkpoints").mkdir()
    sys.stdout = open("/dev/null", "w")
    samples.write(out / "checkpoints")
    sys.stdout = sys.__stdout__
    numbered = out / "numbered"
    numbered.mkdir()
    torch.manual_seed(3)
    model = single_files.make(30)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    single_files.update(model, optimizer)
    for step, day in ((1000, 10), (2000, 11)):
        when = datetime(2025, 11, day, 23, 15, 0)
        single_files.save(numbered, model, optimizer, "bigram", "carolyn_hax", step, when)

    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_positions=16, n_embd=24, n_layer=2, n_head=12)
    GPT2LMHeadModel(config).save_pretrained(out / "gpt2")


def read(bundle):
    weights = torch.load(bundle / "model.pt", weights_only=True)
    optimizer = torch.load(bundle / "optimizer.pt", weights_only=True)
    state = json.loads((bundle / "training_state.json").read_text())
    moments = len(optimizer["state"])
    print(json.dumps({"step": state["step"], "first": next(iter(weights)), "moments": moments}))


def single(file):
    checkpoint = torch.load(file, weights_only=True)
    optimizer = checkpoint["optimizer_state_dict"]
    print(json.dumps({
        "step": checkpoint["step"],
        "keys": list(checkpoint),
        "weights": list(checkpoint["model_state_dict"])[:2],
        "moments": len(optimizer["state"]),
        "rate": optimizer["param_groups"][0]["lr"],
        "hyperparameters": {k: v for k, v in checkpoint["hyperparameters"].items()},
    }))  # fmt: skip


{"write": write, "read": read, "single": single}[sys.argv[1]](Path(sys.argv[2]))
