"""Dicts around a state dict, for test/checkpoint/training-dicts.test.ts.

python training-dicts.py make OUT     one file for each of FORMS
python training-dicts.py judge OUT    of each file that Node trained on and saved over: whether Python resumes it, as JSON
"""

import argparse
import datetime
import json
import pathlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "families"))
import numpy as np  # noqa: E402
import torch  # noqa: E402
from models import Config, Gpt2Like, nano_optimizer  # noqa: E402

SMALL = {"n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 8, "vocab_size": 12, "dropout": 0.0}
BEFORE = 3


def build():
    torch.manual_seed(3)
    model = Gpt2Like(Config(**SMALL))
    return model, nano_optimizer(model)


def update(model, optimizer, batch):
    loss = model(*batch)[1]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def lightning(sd, od):
    state = {f"net.{key}": value for key, value in sd.items()}
    return {"epoch": 1, "global_step": BEFORE, "pytorch-lightning_version": "2.5.0", "state_dict": state,
            "loops": {}, "callbacks": {}, "optimizer_states": [od], "lr_schedulers": []}  # fmt: skip


def with_rate(od, rate):
    return {**od, "param_groups": [{**group, "lr": rate} for group in od["param_groups"]]}


# File: (contents, key of the weights, key of the optimizer or None, key of the step or None)
FORMS = {
    "tutorial.pt": (lambda sd, od: {"epoch": 1, "model_state_dict": sd, "optimizer_state_dict": od, "loss": 1.5},
                    "model_state_dict", "optimizer_state_dict", None),
    "imagenet.pth.tar": (lambda sd, od: {"epoch": 1, "arch": "gpt", "state_dict": sd, "best_acc1": 0.0, "optimizer": od},
                         "state_dict", "optimizer", None),
    "no-suffix": (lambda sd, od: {"step": BEFORE, "model": sd, "optimizer": od}, "model", "optimizer", "step"),
    "model-only.pt": (lambda sd, od: {"model": sd}, "model", None, None),
    "mp_rank_00_model_states.pt": (lambda sd, od: {"module": sd, "global_steps": BEFORE, "dp_world_size": 1},
                                   "module", None, "global_steps"),
    "last.ckpt": (lightning, "state_dict", "optimizer_states", "global_step"),
    "foreign.pt": (lambda sd, od: {"model": sd, "optimizer": od, "iteration": BEFORE, "out_dir": pathlib.PurePosixPath("a"),
                                   "args": argparse.Namespace(lr=1e-3), "date": datetime.date(2024, 1, 1)},
                   "model", "optimizer", "iteration"),
    # What np.interp and counters of NumPy leave in a checkpoint.
    "numpy.pt": (lambda sd, od: {"model": sd, "optimizer": with_rate(od, np.float64(1e-3)), "step": np.int64(BEFORE),
                                 "config": {"n_head": np.int32(2)}},
                 "model", "optimizer", "step"),
}  # fmt: skip


def make(out):
    model, optimizer = build()
    batches = torch.randint(12, (5, 2, 4, 8))
    for batch in batches[:BEFORE]:
        update(model, optimizer, batch)
    for name, (contents, *_) in FORMS.items():
        torch.save(contents(model.state_dict(), optimizer.state_dict()), out / name)
    many = {"state_dict": model.state_dict(), "optimizer": [optimizer.state_dict(), optimizer.state_dict()]}
    torch.save(many, out / "two-optimizers.pt")
    torch.save(model.head if hasattr(model, "head") else torch.nn.Linear(2, 2), out / "module.pt")
    torch.save(batches[BEFORE:], out / "batches.pt")
    losses = [update(model, optimizer, batch) for batch in batches[BEFORE:]]
    print(json.dumps(losses))


def judge(out):
    batches = torch.load(out / "batches.pt", weights_only=True)
    found = {}
    for name, (_, weights, optimizer_key, step) in FORMS.items():
        saved = torch.load(out / name, weights_only=False)
        model, optimizer = build()
        model.load_state_dict({key.removeprefix("net."): value for key, value in saved[weights].items()})
        if optimizer_key is not None:
            state = saved[optimizer_key]
            optimizer.load_state_dict(state[0] if isinstance(state, list) else state)
        found[name] = {
            "keys": list(saved),
            "steps": int(optimizer.state_dict()["state"][0]["step"]) if optimizer_key else None,
            "step": saved[step] if step else None,
            "loss": update(model, optimizer, batches[1]),
            "kept": repr([saved[key] for key in ("out_dir", "args", "date") if key in saved]),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"make": make, "judge": judge}[sys.argv[1]](Path(sys.argv[2]))
