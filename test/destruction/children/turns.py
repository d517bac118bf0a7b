"""Trains with the program of examples/pytorch in a directory where Node trains too, for test/destruction/turns.ts.

    python turns.py    reads the path of a bundle a line; for each a process of its own continues from it, saves in place after every
                       update, and tells of it in lines of JSON until it is killed
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "examples" / "pytorch"))

import torch  # noqa: E402
from bundle import load_bundle, save_bundle  # noqa: E402
from train import random_windows  # noqa: E402

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 30

torch.set_num_threads(1)


def say(**line):
    os.write(1, (json.dumps(line) + "\n").encode())


def go_on(directory):
    model, tokenizer, optimizer, step = load_bundle(directory)
    tokens = torch.tensor(tokenizer.encode(TEXT))
    say(type="start", step=step)
    while True:
        _, loss = model(*random_windows(tokens, model.config))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        say(type="saving", step=step)
        save_bundle(directory, model, tokenizer, step, optimizer)
        say(type="saved", step=step)


for line in sys.stdin:
    child = os.fork()  # importing torch takes longer than all else
    if child == 0:
        try:
            go_on(line.strip())
        except Exception as error:
            say(type="error", message=repr(error))
        os._exit(1)
    say(type="turn", pid=child)
    os.waitpid(child, 0)
    say(type="end")
