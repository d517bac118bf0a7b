"""Checkpoints with each class of torch.optim, for test/checkpoint/optimizers.test.ts.

    python optimizers.py OUT   writes nanoGPT's ckpt.pt and a bundle after two updates to OUT/<class>; when OUT/node.json is there,
                               continues from what Node wrote after a third, and prints how far the fourth is from its own
"""

import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent / "families"))

from models import Config, Gpt2Like, Lecture  # noqa: E402

optim = torch.optim
CLASSES = {
    "adamw": lambda groups: optim.AdamW(groups, lr=1e-2),
    "adam": lambda groups: optim.Adam(groups, lr=1e-2),
    "amsgrad": lambda groups: optim.Adam(groups, lr=1e-2, amsgrad=True),
    "sgd": lambda groups: optim.SGD(groups, lr=1e-1),
    "momentum": lambda groups: optim.SGD(groups, lr=1e-1, momentum=0.9, nesterov=True),
    "adagrad": lambda groups: optim.Adagrad(groups, lr=1e-2, lr_decay=0.1),
}
OTHERS = {
    "RMSprop": lambda groups: optim.RMSprop(groups, lr=1e-3),
    "Adamax": lambda groups: optim.Adamax(groups, lr=1e-3),
    "Adadelta": lambda groups: optim.Adadelta(groups, lr=1e-3),
    "RAdam": lambda groups: optim.RAdam(groups, lr=1e-3),
    "NAdam": lambda groups: optim.NAdam(groups, lr=1e-3),
    "Adafactor": lambda groups: optim.Adafactor(groups, lr=1e-3),
}
ARGS = dict(n_layer=1, n_head=2, n_embd=8, block_size=8, bias=False, vocab_size=19, dropout=0.0)
CONFIG = dict(batch_size=4, block_size=8, vocab_size=19, n_embd=8, n_head=2, n_layer=1, dropout=0.0, bias=False, device="cpu")


def nano():
    torch.manual_seed(0)
    return Gpt2Like(Config(**ARGS))


def lecture():
    torch.manual_seed(0)
    return Lecture(Config(**ARGS))


def nano_groups(model):
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]


def update(model, optimizer, batch):
    optimizer.zero_grad()
    loss = model(*batch)[1]
    loss.backward()
    optimizer.step()


def nano_checkpoint(model, optimizer):
    return dict(model=model.state_dict(), optimizer=optimizer.state_dict(), model_args=ARGS, iter_num=2, best_val_loss=2.0, config={})


def save_bundle(directory, model, optimizer):
    directory.mkdir(parents=True)
    torch.save(model.state_dict(), directory / "model.pt")
    (directory / "config.json").write_text(json.dumps(CONFIG))
    (directory / "training_state.json").write_text(json.dumps({"step": 2, "optimizer_file": "optimizer.pt"}))
    torch.save(optimizer.state_dict(), directory / "optimizer.pt")


def load(kind, make, place):
    model = nano() if kind == "nano" else lecture()
    if kind == "nano":
        saved = torch.load(Path(place) / "ckpt.pt")
        weights, state = saved["model"], saved["optimizer"]
    else:
        weights, state = torch.load(Path(place) / "model.pt"), torch.load(Path(place) / "optimizer.pt")
    model.load_state_dict(weights)
    optimizer = make(nano_groups(model) if kind == "nano" else list(model.parameters()))
    fresh = {tuple(sorted(group)) for group in optimizer.state_dict()["param_groups"]}
    assert {tuple(sorted(set(group) - {"param_names"})) for group in state["param_groups"]} == fresh, state["param_groups"]
    optimizer.load_state_dict(state)
    return model, optimizer


def main(out):
    batches = torch.randint(19, (4, 2, 4, 8), generator=torch.Generator().manual_seed(5))
    reference = {"batches": batches, "weights": {}}
    final = {}
    for name, make in {**CLASSES, **OTHERS}.items():
        for kind in ("nano", "bundle"):
            model = nano() if kind == "nano" else lecture()
            optimizer = make(nano_groups(model) if kind == "nano" else list(model.parameters()))
            for batch in batches[:2]:
                update(model, optimizer, batch)
            place = out / name / kind
            if kind == "nano":
                place.mkdir(parents=True)
                torch.save(nano_checkpoint(model, optimizer), place / "ckpt.pt")
            else:
                save_bundle(place, model, optimizer)
            update(model, optimizer, batches[2])
            reference["weights"][f"{name}/{kind}"] = {key: value.clone() for key, value in model.state_dict().items()}
            update(model, optimizer, batches[3])
            final[f"{name}/{kind}"] = {key: value.clone() for key, value in model.state_dict().items()}
    torch.save(reference, out / "reference.pt")
    (out / "ready").touch()
    request = out / "node.json"
    deadline = time.time() + 240
    while not request.exists():
        if time.time() > deadline:
            sys.exit("no checkpoints came")
        time.sleep(0.05)
    verdicts = {}
    for case, place in json.loads(request.read_text()).items():
        name, kind = case.split("/")
        model, optimizer = load(kind, CLASSES[name], place)
        update(model, optimizer, batches[3])
        state = model.state_dict()
        verdicts[case] = max((state[key] - value).abs().max().item() for key, value in final[case].items())
    print(json.dumps(verdicts))


main(Path(sys.argv[1]))
