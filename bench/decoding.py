"""The Python side of decoding.mjs: the fused loop with a cache, quantized loops, transformers, and the floor."""

import json
import sys
import time

import torch
from fused_gpt import FusedGPT


class Config:
    def __init__(self, shape):
        self.vocab_size, self.block_size = shape["vocabSize"], shape["blockSize"]
        self.n_layer, self.n_head, self.n_embd = shape["nLayer"], shape["nHead"], shape["nEmbd"]
        self.bias = True


def read_bandwidth():
    """GB/s of a sum over 512 MB."""
    values = torch.ones(128 * 2**20)
    best = 0.0
    for _ in range(4):
        began = time.perf_counter()
        values.sum()
        best = max(best, values.nbytes / 1e9 / (time.perf_counter() - began))
    return best


def make(request):
    shape = request["shape"]
    torch.manual_seed(1)
    if request["side"] == "transformers":
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(
            vocab_size=shape["vocabSize"], n_positions=shape["blockSize"], n_embd=shape["nEmbd"],
            n_layer=shape["nLayer"], n_head=shape["nHead"], bos_token_id=0, eos_token_id=None, pad_token_id=0,
        )
        return GPT2LMHeadModel(config).eval().to(getattr(torch, request["dtype"]))
    return FusedGPT(Config(shape)).eval().to(getattr(torch, request["dtype"]))


def generate(model, prompt, tokens):
    """Seconds until the first token, and of all of them."""
    idx = torch.tensor([prompt])
    generate_with = model.generate

    def run(count):
        began = time.perf_counter()
        with torch.inference_mode():
            if hasattr(model, "blocks"):
                out = generate_with(idx, count)
            else:
                out = generate_with(idx, max_new_tokens=count, min_new_tokens=count, do_sample=False,
                                    attention_mask=torch.ones_like(idx))
        assert out.shape[1] == len(prompt) + count
        return time.perf_counter() - began

    return {"first": run(1), "all": run(tokens)}


def describe():
    try:
        import transformers

        version = transformers.__version__
    except ImportError:
        version = None
    return {"torch": torch.__version__, "transformers": version, "capability": torch.backends.cpu.get_cpu_capability()}


def main():
    model = None
    for line in sys.stdin:
        request = json.loads(line)
        work = request["work"]
        if work == "describe":
            torch.set_num_threads(request["threads"])
            answer = describe()
        elif work == "bandwidth":
            answer = {"gigabytes": read_bandwidth()}
        elif work == "make":
            model = None
            model = make(request)
            answer = {}
        else:
            answer = generate(model, request["prompt"], request["tokens"])
        print(json.dumps(answer), flush=True)


main()
