"""The Python side of save-stall.mjs: the seconds that torch.save of a model and its AdamW takes between two updates."""

import json
import os
import sys
import time

import torch
from torch import nn

model = optimizer = None


def make(config):
    channels, layers = config["nEmbd"], config["nLayer"]
    blocks = [
        nn.TransformerEncoderLayer(channels, config["nHead"], 4 * channels, 0.0, batch_first=True, norm_first=True)
        for _ in range(layers)
    ]
    body = nn.Sequential(nn.Embedding(config["vocabSize"], channels), *blocks, nn.Linear(channels, config["vocabSize"]))
    return body, torch.optim.AdamW(body.parameters(), lr=1e-4, fused=True)


def update(config):
    x = torch.randint(config["vocabSize"], (1, config["blockSize"]))
    loss = nn.functional.cross_entropy(model(x).flatten(0, 1), x.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


for line in sys.stdin:
    config = json.loads(line)
    if model is None:
        torch.set_num_threads(config["threads"])
        torch.manual_seed(1)
        model, optimizer = make(config)
    update(config)
    began = time.perf_counter()
    torch.save(model.state_dict(), os.path.join(config["directory"], "python-model.pt"))
    torch.save(optimizer.state_dict(), os.path.join(config["directory"], "python-optimizer.pt"))
    seconds = time.perf_counter() - began
    update(config)
    print(json.dumps({"seconds": seconds}), flush=True)
