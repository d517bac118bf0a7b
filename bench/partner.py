"""The Python side of bench/run.mjs: reads one request a line, answers one line, each with the times of one round.

    {"workload": "step", "variant": "fused", "config": {...}, "repeat": 5}  ->  {"times": [ns, ...], "check": loss}
"""

import json
import platform
import sys
import time
from functools import cache
from pathlib import Path

import torch

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "pytorch"))

from fused_gpt import FusedGPT  # noqa: E402
from model import GPT, GPTConfig  # noqa: E402

SEED = 1337


def timed(function, repeat):
    times = []
    for _ in range(repeat):
        began = time.perf_counter_ns()
        function()
        times.append(time.perf_counter_ns() - began)
    return times


def call(request):
    """One call of a small operator, written as each loop body so that nothing but the operator is called."""
    a, b, inner = torch.ones(8), torch.ones(8), range(request["inner"])
    m, n = torch.ones(16, 16), torch.ones(16, 16)

    def add():
        for _ in inner:
            a + b
        return a + b

    def view():
        for _ in inner:
            a.view(2, 4)
        return a.view(2, 4)

    def matmul():
        for _ in inner:
            m.matmul(n)
        return m.matmul(n)

    def sum():
        for _ in inner:
            a.sum()
        return a.sum()

    run = {"add": add, "view": view, "matmul": matmul, "sum": sum}[request["call"]]
    return {"times": [t / request["inner"] for t in timed(run, request["repeat"])], "check": run().sum().item()}


@cache
def trainer(config_json, variant):
    """A model, its optimizer and one batch. The seed makes weights and batch equal in Node and in both variants."""
    config = GPTConfig(**json.loads(config_json))
    torch.manual_seed(SEED)
    model = GPT(config)
    x, y = torch.randint(config.vocab_size, (2, config.batch_size, config.block_size))  # (B, T) each
    if variant == "fused":
        model = FusedGPT(config).copy_weights(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=variant == "fused")

    def step():
        _, loss = model(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, step().item()


def step(request):
    run, first_loss = trainer(json.dumps(request["config"]), request["variant"])
    return {"times": timed(run, request["repeat"]), "check": first_loss}


@cache
def generator(config_json, variant):
    config = GPTConfig(**json.loads(config_json))
    torch.manual_seed(SEED)
    model = GPT(config).eval()
    if variant == "fused":
        model = FusedGPT(config).copy_weights(model).eval()
    return model


def generate(request):
    model = generator(json.dumps(request["config"]), request["variant"])
    prompt, count = torch.zeros((1, 1), dtype=torch.int64), request["count"]
    arguments = (prompt, count) if request["variant"] == "fused" else (prompt, count, 0)
    tokens = model.generate(*arguments)[0].tolist()
    return {"times": timed(lambda: model.generate(*arguments), request["repeat"]), "check": tokens}


def describe(request):
    torch.set_num_threads(request["threads"])
    return {"python": platform.python_version(), "torch": torch.__version__, "threads": torch.get_num_threads()}


for line in sys.stdin:
    asked = json.loads(line)
    answer = {"describe": describe, "call": call, "step": step, "generate": generate}[asked["workload"]](asked)
    print(json.dumps(answer), flush=True)
