"""The Python side of test/checkpoint/*.test.ts, with the model of examples/pytorch.

    python samples.py write OUT     bundles and single files in the forms that Python programs wrote
    python samples.py check BUNDLE  the step, the loss of one batch and the loss after one more update, as JSON
"""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "pytorch"))

from bundle import CharTokenizer, load_bundle, make_optimizer, save_bundle, write_json  # noqa: E402
from model import GPT, GPTConfig  # noqa: E402

TEXT = "the quick brown fox jumps over the lazy dog. été\n"


def trained(bias=False):
    torch.manual_seed(1)
    tokenizer = CharTokenizer.of_text(TEXT)
    config = GPTConfig(4, 8, len(tokenizer.chars), 12, 2, 2, 0.0, bias)
    model = GPT(config)
    optimizer = make_optimizer(model, 1e-2)
    for _ in range(3):
        update(model, optimizer)
    return model, tokenizer, optimizer


def batch():
    return torch.arange(8)[None], torch.arange(1, 9)[None]


def update(model, optimizer):
    loss = model(*batch())[1]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def legacy(model, tokenizer, optimizer, **changes):
    return {
        "model_state_dict": model.state_dict(),
        "config": model.config.to_dict(),
        "tokenizer": {"token_kind": "char", "chars": tokenizer.chars},
        "step": 3,
        "optimizer_state_dict": optimizer.state_dict(),
        **changes,
    }


def write(out):
    model, tokenizer, optimizer = trained()
    save_bundle(out / "python", model, tokenizer, 3, optimizer)

    save_bundle(out / "wrapped", model, tokenizer, 3, optimizer)
    half = {key: value.to(torch.bfloat16) for key, value in model.state_dict().items()}
    torch.save({"state_dict": half, "checkpoint_dtype": "bf16", "model_dtype": "fp32"}, out / "wrapped" / "model.pt")
    resumed = GPT(model.config)
    resumed.load_state_dict(half)
    dtypes = {key: str(value.dtype).removeprefix("torch.") for key, value in resumed.state_dict().items()}
    wrapped_optimizer = make_optimizer(resumed, 1e-2)
    wrapped_optimizer.load_state_dict(torch.load(out / "wrapped" / "optimizer.pt", weights_only=True))
    wrapped = [update(resumed, wrapped_optimizer), update(resumed, wrapped_optimizer)]

    save_bundle(out / "extra", model, tokenizer, 3, optimizer)
    write_json(out / "extra" / "config.json", {**model.config.to_dict(), "device": "cuda", "note": "été"})
    state = {"step": 3, "optimizer_file": "optimizer.pt", "training_config": {"max_iters": 10, "learning_rate": 0.01}}
    write_json(out / "extra" / "training_state.json", state)

    (out / "old").mkdir()
    torch.save(legacy(model, tokenizer, optimizer), out / "old" / "latest.pt")
    (out / "finished").mkdir()
    final = legacy(model, tokenizer, optimizer, step=None, optimizer_state_dict=None)
    torch.save(final, out / "finished" / "final.pt")
    (out / "mute").mkdir()
    torch.save({**final, "tokenizer": None}, out / "mute" / "final.pt")

    logits = model(batch()[0])[0].tolist()
    print(json.dumps({"logits": logits, "next": [update(model, optimizer), update(model, optimizer)], "wrapped": wrapped, "wrapped_dtypes": dtypes}))


def check(bundle):
    model, tokenizer, optimizer, step = load_bundle(bundle)
    print(json.dumps({"step": step, "chars": tokenizer.chars, "next": [update(model, optimizer), update(model, optimizer)]}))


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](Path(sys.argv[2]))
