"""The Python side of test/cli/*.test.ts.

One process answers these requests, `[action, path]`:

    write OUT     OUT/checkpoints: models of MyPT, new and old; OUT/numbered: files of build_llm_karpathy;
                  OUT/gpt2: a small GPT-2 of Hugging Face, with the vocabulary of the real one
    read BUNDLE   step and keys of a bundle, as JSON
    single FILE   the same of a single-file checkpoint
    resume FILE   what build_llm_karpathy does with one: it makes the model anew, with adapters if the file says so,
                  loads weights and optimizer, makes an update, and saves FILE-resumed.pt
"""

import json
import sys
from datetime import datetime
from pathlib import Path

import torch

tests = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(tests / folder) for folder in ("checkpoint", "checkpoint/families", "helpers")]

import models  # noqa: E402
import samples  # noqa: E402
import single_files  # noqa: E402
from session import serve  # noqa: E402


def write(out):
    (out / "checkpoints").mkdir()
    samples.write(out / "checkpoints")
    numbered = out / "numbered"
    numbered.mkdir()
    torch.manual_seed(3)
    model = single_files.make(30)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    single_files.update(model, optimizer)
    for step, day in ((1000, 10), (2000, 11)):
        when = datetime(2025, 11, day, 23, 15, 0)
        single_files.save(numbered, model, optimizer, "bigram", "carolyn_hax", step, when)

    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_positions=16, n_embd=24, n_layer=2, n_head=12)
    GPT2LMHeadModel(config).save_pretrained(out / "gpt2")


def read(bundle):
    weights = torch.load(bundle / "model.pt", weights_only=True)
    optimizer = torch.load(bundle / "optimizer.pt", weights_only=True)
    state = json.loads((bundle / "training_state.json").read_text())
    moments = len(optimizer["state"])
    print(json.dumps({"step": state["step"], "first": next(iter(weights)), "moments": moments}))


def single(file):
    checkpoint = torch.load(file, weights_only=True)
    optimizer = checkpoint["optimizer_state_dict"]
    print(json.dumps({
        "step": checkpoint["step"],
        "keys": list(checkpoint),
        "weights": list(checkpoint["model_state_dict"])[:2],
        "moments": len(optimizer["state"]),
        "rate": optimizer["param_groups"][0]["lr"],
        "hyperparameters": {k: v for k, v in checkpoint["hyperparameters"].items()},
    }))  # fmt: skip


class Gpt2Wrapper(torch.nn.Module):
    """build_llm_karpathy's model of type gpt2."""

    def __init__(self, name):
        super().__init__()
        from transformers import GPT2LMHeadModel

        self.model = GPT2LMHeadModel.from_pretrained(name)

    def forward(self, idx, targets):
        return models.with_loss(self.model(input_ids=idx).logits, targets)


def resume(file):
    checkpoint = torch.load(file, weights_only=True)
    facts = checkpoint["hyperparameters"]
    torch.manual_seed(0)
    if facts["model_type"] == "gpt2":
        model, layers = Gpt2Wrapper(facts["gpt2_model_name"]), models.GPT2_LAYERS
    else:
        config = models.Config(
            checkpoint["vocab_size"], checkpoint["block_size"], facts["n_layer"], facts["n_head"], facts["n_embd"]
        )
        model, layers = models.Lecture(config, scale="embd", norm_in_blocks=True), models.SCRATCH_LAYERS
    if facts["use_lora"]:
        if facts["model_type"] == "gpt2":
            model.requires_grad_(False)
        models.adapt_layers(model, layers, rank=facts["lora_rank"], alpha=facts["lora_alpha"])
    missing = model.load_state_dict(checkpoint["model_state_dict"])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
    batch = torch.randint(20, (2, 2, 8))
    loss = model.eval()(*batch)[1]
    loss.backward()
    optimizer.step()
    after = model(*batch)[1].item()
    # Python's program notes its default here, which it does not use for GPT-2.
    hyperparameters = {**facts, "tokenization_method": "character"}
    resumed = {
        **{key: value for key, value in checkpoint.items() if key != "tokenizer"},
        "step": checkpoint["step"] + 1,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "hyperparameters": hyperparameters,
    }
    torch.save(resumed, f"{file.with_suffix('')}-resumed.pt")
    shapes = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(json.dumps({"loss": loss.item(), "after": after, "missing": list(missing.missing_keys), "trained": shapes,
                      "batch": batch.tolist()}))  # fmt: skip


actions = {"write": write, "read": read, "single": single, "resume": resume}
serve({name: lambda path, action=action: action(Path(path)) for name, action in actions.items()})
