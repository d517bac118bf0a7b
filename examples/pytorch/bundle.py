"""Checkpoint bundles: a directory with the weights, the optimizer and three small JSON files.

    model.pt             the state_dict of the model
    config.json          the fields of GPTConfig
    tokenizer.json       {"token_kind": "char", "chars": [...]}
    training_state.json  {"step": updates made, "optimizer_file": "optimizer.pt"}
    optimizer.pt         the state_dict of AdamW
"""

import json
from pathlib import Path

import torch

from model import GPT, GPTConfig


class CharTokenizer:
    """One token for each character; ids are positions in the sorted list of characters."""

    def __init__(self, chars):
        self.chars = list(chars)
        self.ids = {c: i for i, c in enumerate(self.chars)}

    @classmethod
    def of_text(cls, text):
        return cls(sorted(set(text)))

    def encode(self, text):
        return [self.ids[c] for c in text]

    def decode(self, ids):
        return "".join(self.chars[i] for i in ids)


def make_optimizer(model, learning_rate):
    return torch.optim.AdamW(model.parameters(), lr=learning_rate)


def save_bundle(directory, model, tokenizer, step, optimizer):
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), directory / "model.pt")
    torch.save(optimizer.state_dict(), directory / "optimizer.pt")
    write_json(directory / "config.json", model.config.to_dict())
    write_json(directory / "tokenizer.json", {"token_kind": "char", "chars": tokenizer.chars})
    write_json(directory / "training_state.json", {"step": step, "optimizer_file": "optimizer.pt"})


def load_bundle(directory, learning_rate=3e-4):
    """The model, tokenizer, optimizer and step of a bundle. Hyperparameters of the optimizer come from its file."""
    directory = Path(directory)
    config = GPTConfig(**read_json(directory / "config.json"))
    model = GPT(config)
    model.load_state_dict(torch.load(directory / "model.pt", weights_only=True))
    tokenizer = CharTokenizer(read_json(directory / "tokenizer.json")["chars"])
    optimizer = make_optimizer(model, learning_rate)
    step = 0
    if (directory / "training_state.json").exists():
        state = read_json(directory / "training_state.json")
        step = state["step"]
        optimizer.load_state_dict(torch.load(directory / state["optimizer_file"], weights_only=True))
    return model, tokenizer, optimizer, step


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
