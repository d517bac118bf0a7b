"""The Python side of test/checkpoint/single-files.test.ts: what build_llm_karpathy and MyPT wrote before.

    python single_files.py write OUT    OUT/numbered: checkpoints by number; OUT/models: a directory for each model
    python single_files.py check FILE   the step, hyperparameters, the loss of one batch and after one more update, as JSON
"""

import json
import sys
from datetime import datetime
from pathlib import Path

import torch

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here), str(here / "families")]

import samples  # noqa: E402
from models import Config, Lecture  # noqa: E402

SIZES = {"n_embd": 8, "n_head": 2, "n_layer": 2, "dropout": 0.0}


def make(vocab_size):
    torch.manual_seed(3)
    return Lecture(Config(**SIZES, block_size=8, vocab_size=vocab_size), scale="embd", norm_in_blocks=True)


def update(model, optimizer):
    x = torch.arange(8)[None]
    loss = model(x, x + 1)[1]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def save(directory, model, optimizer, name, source, step, when, method="character"):
    """As its save_checkpoint: the name, and the keys in their order."""
    vocab_size = model.token_embedding_table.weight.shape[0]
    checkpoint = {
        "step": step,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "hyperparameters": {**SIZES, "batch_size": 4, "block_size": 8, "learning_rate": 1e-2, "model_type": "from_scratch",
                            "tokenization_method": method, "use_lora": False},
        "vocab_size": vocab_size,
        "block_size": 8,
        "batch_size": 4,
    }  # fmt: skip
    stamp = when.strftime("%m%d%Y_%H%M%S")
    torch.save(checkpoint, directory / f"checkpoint_{name}_{source}_step{step:06d}_{stamp}.pt")


def write(out):
    numbered = out / "numbered"
    numbered.mkdir()
    model = make(19)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for step in (1, 2, 3):
        losses.append(update(model, optimizer))
        save(numbered, model, optimizer, "bigram", "carolyn_hax", step, datetime(2025, 11, 10, 23, 15, step))
    save(numbered, model, optimizer, "gpt2medium", "carolyn_hax", 500, datetime(2025, 11, 9, 8, 0, 0))
    save(numbered, model, optimizer, "gpt2", "tales_step1", 3, datetime(2024, 12, 31, 23, 59, 59))
    bpe = out / "bpe"
    bpe.mkdir()
    large = make(50257)
    save(bpe, large, optimizer, "bigram", "tales", 1, datetime(2025, 11, 1), "gpt2")
    save(bpe, model, optimizer, "bigram", "tales", 2, datetime(2025, 11, 2), "gpt2")
    tokens = torch.tensor([[15496, 995]])  # what GPT-2's encoding has for 'Hello world'
    for _ in range(4):
        tokens = torch.cat([tokens, large(tokens)[0][:, -1:].argmax(-1)], 1)
    models = out / "models"
    models.mkdir()
    sys.stdout = open("/dev/null", "w")
    samples.write(models)
    sys.stdout = sys.__stdout__
    print(json.dumps({"next": [update(model, optimizer), update(model, optimizer)], "tokens": tokens[0].tolist()}))


def check(file):
    checkpoint = torch.load(file, weights_only=True)
    model = make(checkpoint["vocab_size"])
    model.load_state_dict(checkpoint["model_state_dict"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=123)
    optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
    print(json.dumps({
        "keys": list(checkpoint),
        "step": checkpoint["step"],
        "hyperparameters": checkpoint["hyperparameters"],
        "kinds": {key: type(value).__name__ for key, value in checkpoint["hyperparameters"].items()},
        "next": [update(model, optimizer), update(model, optimizer)],
    }))  # fmt: skip


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](Path(sys.argv[2]))
