"""The Python side of bench/nanogpt.mjs: a plain GPT of nanoGPT's form in PyTorch, trained on the same windows.

Takes one JSON object as its argument, prints one line of JSON for each update and evaluation.
"""

import json
import math
import sys
import time

import torch
import torch.nn as nn
from torch.nn import functional as F


class Norm(nn.Module):
    def __init__(self, C):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(C))

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, None, 1e-5)


class Attention(nn.Module):
    def __init__(self, C, n_head):
        super().__init__()
        self.n_head = n_head
        self.c_attn = nn.Linear(C, 3 * C, bias=False)
        self.c_proj = nn.Linear(C, C, bias=False)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (t.view(B, T, self.n_head, -1).transpose(1, 2) for t in self.c_attn(x).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, H, T, S)
        return self.c_proj(y.transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    def __init__(self, C):
        super().__init__()
        self.c_fc = nn.Linear(C, 4 * C, bias=False)
        self.c_proj = nn.Linear(4 * C, C, bias=False)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, C, n_head):
        super().__init__()
        self.ln_1, self.attn, self.ln_2, self.mlp = Norm(C), Attention(C, n_head), Norm(C), MLP(C)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, vocab_size, block_size, n_layer, n_head, n_embd):
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocab_size, n_embd),
                "wpe": nn.Embedding(block_size, n_embd),
                "h": nn.ModuleList([Block(n_embd, n_head) for _ in range(n_layer)]),
                "ln_f": Norm(n_embd),
            }
        )
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight

    def forward(self, ids, targets):
        t = self.transformer
        x = t["wte"](ids) + t["wpe"](torch.arange(ids.shape[1]))  # (B, T, C)
        for block in t["h"]:
            x = block(x)
        logits = self.lm_head(t["ln_f"](x))  # (B, T, V)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))


def batch(data, recipe, generator):
    T = recipe["block_size"]
    starts = torch.randint(len(data) - T, (recipe["batch_size"],), generator=generator)
    x = torch.stack([data[i : i + T] for i in starts])
    y = torch.stack([data[i + 1 : i + 1 + T] for i in starts])
    return x, y  # (B, T) each


def rate_at(step, recipe):
    rate, low, warmup, steps = (recipe[k] for k in ("learning_rate", "min_lr", "warmup_iters", "lr_decay_iters"))
    if step < warmup:
        return rate * (step + 1) / (warmup + 1)
    if step > steps:
        return low
    return low + 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) * (rate - low)


@torch.no_grad()
def validation_loss(model, data, recipe):
    generator = torch.Generator().manual_seed(recipe["seed"])
    losses = [model(*batch(data, recipe, generator)).item() for _ in range(recipe["eval_iters"])]
    return sum(losses) / len(losses)


def main():
    recipe = json.loads(sys.argv[1])
    torch.set_num_threads(recipe["threads"])
    text = open(recipe["text"], encoding="utf-8").read()
    ids = {c: i for i, c in enumerate(sorted(set(text)))}
    tokens = torch.tensor([ids[c] for c in text])
    cut = int(0.9 * len(tokens))
    model = GPT(len(ids), *(recipe[k] for k in ("block_size", "n_layer", "n_head", "n_embd")))
    model.load_state_dict(torch.load(recipe["weights"], weights_only=True)["model"])
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": recipe["weight_decay"]}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe["learning_rate"], betas=(0.9, recipe["beta2"]), fused=True)
    generator = torch.Generator().manual_seed(recipe["seed"])
    seconds = 0.0
    for step in range(recipe["max_iters"]):
        began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, recipe)
        optimizer.zero_grad()
        loss = model(*batch(tokens[:cut], recipe, generator))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe["grad_clip"])
        optimizer.step()
        value = loss.item()
        seconds += time.perf_counter() - began
        print(json.dumps({"type": "step", "step": step + 1, "loss": value}), flush=True)
    val = validation_loss(model.eval(), tokens[cut:], recipe)
    print(json.dumps({"type": "end", "val_loss": val, "seconds": seconds}), flush=True)


main()
