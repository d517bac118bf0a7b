"""The Python side of training.mjs: answers one request, with the times of steps and the peak memory, or with losses."""

import json
import sys
import time
from pathlib import Path

import torch

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "pytorch"))

from fused_gpt import FusedGPT  # noqa: E402
from model import GPT, GPTConfig  # noqa: E402

SEED = 1337


def peak_memory():
    """The most memory that this process has had, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1e3


def batches(path, config, count):
    """The text from one place after the other, as training.mjs takes it."""
    size = config.batch_size * config.block_size
    tokens = torch.frombuffer(bytearray(Path(path).read_bytes()), dtype=torch.uint8).long() % config.vocab_size
    for i in range(count):
        start = i * size % (len(tokens) - size - 1)
        yield [tokens[start + shift :][:size].view(config.batch_size, -1) for shift in (0, 1)]


def main(request):
    torch.set_num_threads(request["threads"])
    torch.manual_seed(SEED)
    config = GPTConfig(**request["config"], dropout=0)
    model = GPT(config)
    drawn = torch.randint(config.vocab_size, (2, config.batch_size, config.block_size))
    model = FusedGPT(config).copy_weights(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    compute = torch.compile(model) if request["side"] == "compile" else model

    def step(x, y):
        with torch.autocast("cpu", torch.bfloat16, enabled=request["side"] == "python-autocast"):
            _, loss = compute(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    if "losses" in request:
        return {"losses": [step(x, y) for x, y in batches(request["text"], config, request["losses"])]}
    x, y = drawn  # (B, T) each
    for _ in range(2):
        step(x, y)
    times = []
    for _ in range(request["steps"]):
        began = time.perf_counter()
        step(x, y)
        times.append(1e3 * (time.perf_counter() - began))
    return {"ms": times, "peak": peak_memory()}


print(json.dumps(main(json.loads(sys.stdin.readline()))), flush=True)
