"""Hugging Face's Trainer on a tiny GPT-2, for test/checkpoint/hf-trainer.test.ts.

    python trainer.py OUT    trains to OUT/python/checkpoint-2, -4 and -6 and writes OUT/reference.pt; the same with a LoRA
                             adapter of PEFT over OUT/base to OUT/lora, in bfloat16 to OUT/half, and with other optimizers
                             to OUT/sgd, OUT/adagrad and OUT/adafactor; when OUT/node.json is
                             there, resumes from the checkpoints that it names, to step 6, and prints what came of it
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed  # noqa: E402

LAST = 6
OTHERS = {"sgd": {"optim": "sgd", "optim_args": "momentum=0.9"}, "adagrad": {"optim": "adagrad"}}


def build():
    set_seed(5)
    config = GPT2Config(
        n_layer=2, n_head=2, n_embd=8, n_positions=8, vocab_size=19, bos_token_id=1, eos_token_id=2,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


class Recording(Trainer):
    def training_step(self, model, inputs, *args):
        loss = super().training_step(model, inputs, *args)
        self.batches.append(inputs["input_ids"].clone())
        self.losses.append(loss.item())
        return loss


def adapted(out):
    """The model of OUT/base under a PEFT adapter with weights that are not those it began with."""
    base = GPT2LMHeadModel.from_pretrained(out / "base")
    set_seed(6)
    config = LoraConfig(r=2, lora_alpha=4, lora_dropout=0.0, target_modules=["c_attn", "c_proj"], task_type="CAUSAL_LM", fan_in_fan_out=True)
    return get_peft_model(base, config)


def trainer(out, model=None, **arguments):
    model = model or build()
    data = torch.randint(19, (4 * LAST, 8), generator=torch.Generator().manual_seed(3))
    args = TrainingArguments(
        output_dir=str(out), max_steps=LAST, save_steps=2, logging_steps=1, per_device_train_batch_size=4, weight_decay=0.1,
        learning_rate=1e-3, use_cpu=True, report_to="none", disable_tqdm=True, seed=7, **arguments,
    )  # fmt: skip
    # Trainer divides the loss by the number of labels, counting the first of a row too, which nothing predicts.
    labels = torch.cat([torch.full((len(data), 1), -100), data[:, 1:]], dim=1)
    rows = [{"input_ids": row, "labels": label} for row, label in zip(data, labels)]
    made = Recording(model=model, args=args, train_dataset=rows)
    made.batches, made.losses = [], []
    return made


def quietly(run):
    """Trainer prints its log; this script's output is one JSON document."""
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        return run()
    finally:
        sys.stdout = stdout


def main(out):
    whole = trainer(out / "python")
    quietly(whole.train)
    at_two = GPT2LMHeadModel.from_pretrained(out / "python" / "checkpoint-2").eval()
    with torch.no_grad():
        logits = at_two(whole.batches[2]).logits
    rates = [entry["learning_rate"] for entry in whole.state.log_history if "learning_rate" in entry]
    build().save_pretrained(out / "base")
    lora = trainer(out / "lora", adapted(out))
    quietly(lora.train)
    half = trainer(out / "half", build().to(torch.bfloat16))
    half.args.max_steps = 2
    quietly(half.train)
    others = {name: trainer(out / name, **arguments) for name, arguments in OTHERS.items()}
    for other in others.values():
        quietly(other.train)
    refused = trainer(out / "adafactor", optim="adafactor")
    refused.args.max_steps = 2
    quietly(refused.train)
    torch.save(
        {
            "batches": torch.stack(whole.batches), "losses": whole.losses, "logits": logits, "rates": rates,
            "loraBatches": torch.stack(lora.batches), "loraLosses": lora.losses,
            "sgdLosses": others["sgd"].losses, "adagradLosses": others["adagrad"].losses,
        },  # fmt: skip
        out / "reference.pt",
    )
    (out / "ready").touch()
    request = out / "node.json"
    deadline = time.time() + 240
    while not request.exists():
        if time.time() > deadline:
            sys.exit("no checkpoints came")
        time.sleep(0.05)
    runs = {"same": whole, "trained": whole, "loraSame": lora, "loraTrained": lora}
    runs |= {f"{name}{kind}": run for name, run in others.items() for kind in ("Same", "Trained")}
    places = json.loads(request.read_text())
    print(json.dumps({name: resume(out, name, place, runs[name]) for name, place in places.items()}))


def resume(out, name, place, whole):
    start = json.loads((Path(place) / "trainer_state.json").read_text())
    other = next((arguments for kind, arguments in OTHERS.items() if name.startswith(kind)), {})
    run = trainer(out / "resumed" / name, adapted(out) if name.startswith("lora") else None, **other)
    quietly(lambda: run.train(resume_from_checkpoint=place))
    same = Path(whole.args.output_dir) / f"checkpoint-{start['global_step']}"
    return {
        "losses": run.losses,
        "expected": whole.losses[start["global_step"] :],
        "step": run.state.global_step,
        "epochs": [start["epoch"], json.loads((same / "trainer_state.json").read_text())["epoch"]],
        "logged": [entry["step"] for entry in run.state.log_history if "loss" in entry],
        "scheduler": differences(load(Path(place), "scheduler.pt"), load(same, "scheduler.pt")),
        "optimizer": differences(load(Path(place), "optimizer.pt"), load(same, "optimizer.pt")),
        "weights": differences(dict(run.model.state_dict()), dict(whole.model.state_dict())),
        "moments": differences(run.optimizer.state_dict(), whole.optimizer.state_dict()),
    }


def load(directory, name):
    return torch.load(directory / name, weights_only=True)


def differences(a, b):
    """The largest difference of tensors and floats; all else must be equal; the order of keys may differ."""
    if type(a) is not type(b):
        raise AssertionError(f"{type(a)} is not {type(b)}: {a!r}, {b!r}")
    if isinstance(a, dict):
        assert a.keys() == b.keys(), (list(a), list(b))
        return max([differences(a[key], b[key]) for key in a], default=0.0)
    if isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        return max([differences(x, y) for x, y in zip(a, b)], default=0.0)
    if isinstance(a, torch.Tensor):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        return (a.double() - b.double()).abs().max().item() if a.numel() else 0.0
    if isinstance(a, float):
        return abs(a - b)
    assert a == b, (a, b)
    return 0.0


main(Path(sys.argv[1]))
