"""Models with LoRA adapters as their own programs make, write and read them, for test/models/lora.test.ts.

    python lora.py make OUT     files for each case, and reference.pt with what Python computes
    python lora.py judge OUT    what Python makes of the files that Node wrote, as JSON
"""

import json
import os
import sys
import warnings
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
sys.path.insert(0, str(Path(__file__).parent.parent / "checkpoint/families"))
import torch  # noqa: E402
import torch.nn as nn  # noqa: E402
from families import BEFORE, SMALL, adamw, differences, update  # noqa: E402
from models import GPT2_LAYERS, SCRATCH_LAYERS, Config, Lecture, adapt_layers, with_loss  # noqa: E402
from peft import LoraConfig, PeftModel, get_peft_model  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import GPT2Config, GPT2LMHeadModel  # noqa: E402

RANK, ALPHA = 3, 6.0


def adapt(model, transposed, names):
    return adapt_layers(model, names, rank=RANK, alpha=ALPHA, transposed=transposed)


def scratch(transposed=False):
    model = Lecture(Config(**SMALL), scale="embd", norm_in_blocks=True)
    return adapt(model, transposed, SCRATCH_LAYERS)


def gpt2(**facts):
    sizes = {k: SMALL[k] for k in ("n_layer", "n_head", "n_embd", "vocab_size")}
    drops = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(n_positions=8, bos_token_id=1, eos_token_id=2, **sizes, **drops, **facts))


class Wrapper(nn.Module):
    """GPT-2 as build_llm_karpathy wraps it; also the interface of the other models for PEFT's."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, idx, targets=None):
        return with_loss(self.model(input_ids=idx).logits, targets)


def wrapper():
    model = gpt2().requires_grad_(False)
    return Wrapper(adapt(model, False, GPT2_LAYERS))


def trainable(model):
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)


FROM_SCRATCH = {**SMALL, "batch_size": 4, "model_type": "from_scratch", "use_lora": True}
NOTED = {"lora_rank": RANK, "lora_alpha": ALPHA, "lora_dropout": 0.0}
CASES = {
    "from scratch": (scratch, adamw, {**FROM_SCRATCH, **NOTED}),
    "from scratch, before": (lambda: scratch(True), trainable, FROM_SCRATCH),
    "gpt2": (wrapper, trainable, {"batch_size": 4, "model_type": "gpt2", "gpt2_model_name": "tiny", "use_lora": True}),
}
PEFT_CASES = {
    "peft": {"target_modules": ["c_attn", "mlp.c_proj"]},
    "peft rslora with head": {"target_modules": ["c_attn", "c_fc", "lm_head"], "use_rslora": True},
}


def trial(model, optimizer, batches):
    logits = model(batches[BEFORE][0])[0].detach()
    return {"logits": logits, "losses": [update(model, optimizer, batch) for batch in batches[BEFORE:]]}


def make(out):
    torch.manual_seed(7)
    batches = torch.randint(SMALL["vocab_size"], (6, 2, 4, SMALL["block_size"]))
    cases = {}
    for name, (build, make_optimizer, hyperparameters) in CASES.items():
        model = build()
        optimizer = make_optimizer(model)
        for batch in batches[:BEFORE]:
            update(model, optimizer, batch)
        (out / name).mkdir()
        checkpoint = {
            "step": BEFORE,
            "model_state_dict": model.state_dict(),
            "optimizer_state_dict": optimizer.state_dict(),
            "hyperparameters": hyperparameters,
            "vocab_size": SMALL["vocab_size"],
            "block_size": SMALL["block_size"],
            "batch_size": 4,
        }
        torch.save(checkpoint, out / name / "model.pt")
        cases[name] = trial(model, optimizer, batches)
    base = gpt2()
    base.save_pretrained(out / "base")
    for name, facts in PEFT_CASES.items():
        config = LoraConfig(r=RANK, lora_alpha=ALPHA, fan_in_fan_out=True, task_type="CAUSAL_LM", **facts)
        inner = get_peft_model(GPT2LMHeadModel.from_pretrained(out / "base"), config)
        for key, parameter in inner.named_parameters():
            if "lora_B" in key:
                nn.init.normal_(parameter, std=0.3)
        inner.save_pretrained(out / name)
        cases[name] = trial(Wrapper(inner), trainable(inner), batches)
    torch.save({"batches": batches, "cases": cases}, out / "reference.pt")


def judge(out):
    batches = torch.load(out / "reference.pt", weights_only=True)["batches"]
    verdicts = {}
    for name, (build, make_optimizer, _) in CASES.items():
        files = [out / name / file for file in ("model.pt", "unchanged.pt", "trained.pt")]
        before, unchanged, trained = (torch.load(file, weights_only=True) for file in files)
        model = build()
        model.load_state_dict(trained["model_state_dict"])
        optimizer = make_optimizer(model)
        optimizer.load_state_dict(trained["optimizer_state_dict"])
        losses = [update(model, optimizer, batch) for batch in batches[BEFORE + 2 :]]
        verdicts[name] = {"losses": losses, "differences": differences(before, unchanged, name)}
    for name in PEFT_CASES:
        found = []
        for file, read in (("adapter_model.safetensors", load_file), ("adapter_config.json", read_json)):
            found += differences(read(out / name / file), read(out / name / "unchanged" / file), file, ordered=False)
        verdicts[name] = {"losses": peft_losses(out, out / name / "trained", batches), "differences": found}
    fresh = out / "fresh"
    verdicts["fresh"] = {"losses": peft_losses(out, fresh, batches), "differences": []}
    folded = Wrapper(GPT2LMHeadModel.from_pretrained(out / "folded"))
    verdicts["folded"] = {"losses": [folded(*batches[0])[1].item()], "differences": []}
    print(json.dumps(verdicts))


def read_json(path):
    return json.loads(path.read_text())


def peft_losses(out, adapter, batches):
    base = GPT2LMHeadModel.from_pretrained(out / "base")
    model = Wrapper(PeftModel.from_pretrained(base, adapter, is_trainable=True))
    return [model(*batch)[1].item() for batch in batches]


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    {"make": make, "judge": judge}[sys.argv[1]](Path(sys.argv[2]))
