"""Checkpoints as the families' own programs write and read them, for test/checkpoint/families.test.ts.

One process answers these requests, `[action, directory, *arguments]`:

    make OUT               a directory for each case, and reference.pt with what Python computes
    judge OUT CASE...      what Python makes of OUT/CASE/unchanged, /trained and /fitted, as JSON
    cast OUT DTYPE CASE... which files in half precision differ from Python's, as JSON
    converted OUT          how far the logits of each conversion in OUT/converted are from the original's, as JSON
"""

import copy
import json
import os
import sys
import warnings
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from models import (  # noqa: E402
    Config,
    Fused,
    FusedConfig,
    Gpt2Like,
    Lecture,
    fused_optimizer,
    mini_optimizer,
    nano_optimizer,
    trainer_optimizer,
)

SMALL = {"n_layer": 2, "n_head": 2, "n_embd": 8, "block_size": 8, "vocab_size": 19, "dropout": 0.0}
BEFORE = 2  # updates before the checkpoint is saved


def adamw(model, lr=1e-3):
    return torch.optim.AdamW(model.parameters(), lr=lr)


class Case:
    """What `target` says is opened, within the case's directory; `options` are those of GPT.load."""

    target, options, has_optimizer = "model.pt", {}, False
    make_optimizer = staticmethod(adamw)

    def __init__(self, build, **facts):
        self.build = build
        self.__dict__.update(facts)

    def save(self, directory, model, optimizer):
        torch.save(model.state_dict(), directory / self.target)

    def load(self, directory):
        model = self.build()
        model.load_state_dict(torch.load(directory / self.target, weights_only=True))
        return model, self.make_optimizer(model)


class NanoGpt(Case):
    target, has_optimizer, prefix = "ckpt.pt", True, ""
    make_optimizer = staticmethod(nano_optimizer)

    def save(self, directory, model, optimizer):
        config = model.config
        state = model.state_dict()
        if self.prefix == "_orig_mod.":
            state = torch.compile(model).state_dict()
        elif self.prefix:
            state = OrderedDict((self.prefix + key, value) for key, value in state.items())
        checkpoint = {
            "model": state,
            "optimizer": optimizer.state_dict(),
            "model_args": {**SMALL, "bias": config.bias},
            "iter_num": BEFORE,
            "best_val_loss": torch.tensor(2.5),
            "config": {"out_dir": "out", "batch_size": 4, "learning_rate": 1e-3, "dataset": "none", "compile": True},
        }
        torch.save(checkpoint, directory / self.target)

    def load(self, directory):
        checkpoint = torch.load(directory / self.target, weights_only=True)
        model = Gpt2Like(Config(**checkpoint["model_args"]), mask_buffer=self.build().transformer.h[0].attn._buffers != {})
        state = checkpoint["model"]
        if self.prefix:
            assert all(key.startswith(self.prefix) for key in state)
        model.load_state_dict({key.removeprefix(self.prefix): value for key, value in state.items()})
        optimizer = nano_optimizer(model)
        optimizer.load_state_dict(checkpoint["optimizer"])
        return model, optimizer


class FusedBundle(Case):
    target, has_optimizer, wrapper = ".", True, None

    def save(self, directory, model, optimizer):
        state = model.state_dict()
        if self.wrapper is not None:
            state = {"state_dict": state, **self.wrapper}
        torch.save(state, directory / "model.pt")
        (directory / "config.json").write_text(json.dumps(asdict(model.config), indent=2))
        torch.save(optimizer.state_dict(), directory / "optimizer.pt")
        (directory / "training_state.json").write_text(json.dumps({"step": BEFORE, "optimizer_file": "optimizer.pt"}))

    def load(self, directory):
        known = FusedConfig.__dataclass_fields__
        config = json.loads((directory / "config.json").read_text())
        model = Fused(FusedConfig(**{key: value for key, value in config.items() if key in known}))
        state = torch.load(directory / "model.pt", weights_only=True)
        if self.wrapper is not None:
            assert set(state) == {"state_dict", *self.wrapper}
            state = state["state_dict"]
        model.load_state_dict(state)
        optimizer = self.make_optimizer(model)
        optimizer.load_state_dict(torch.load(directory / "optimizer.pt", weights_only=True))
        return model, optimizer


class HfGpt2(Case):
    target, base, masks = ".", False, False
    make_optimizer = staticmethod(trainer_optimizer)

    def __init__(self, **facts):
        self.facts = {
            **{k: v for k, v in SMALL.items() if k not in ("block_size", "dropout")}, "n_positions": 8, "bos_token_id": 1,
            "eos_token_id": 2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, **facts.pop("config", {}),
        }  # fmt: skip
        super().__init__(self.build_hf, **facts)

    def build_hf(self):
        from transformers import GPT2Config, GPT2LMHeadModel

        return HfWrapper(GPT2LMHeadModel(GPT2Config(**self.facts)))

    def save(self, directory, model, optimizer):
        gpt2 = model.inner
        gpt2.config.save_pretrained(directory)
        gpt2.generation_config.save_pretrained(directory)
        state = OrderedDict(gpt2.state_dict())
        if self.base:
            state = {k.removeprefix("transformer."): v for k, v in state.items() if k.startswith("transformer.")}
            state = OrderedDict(state)
        if self.masks:
            stem = "" if self.base else "transformer."
            for i in range(gpt2.config.n_layer):
                T = gpt2.config.n_positions
                state[f"{stem}h.{i}.attn.bias"] = torch.tril(torch.ones(T, T, dtype=self.masks)).view(1, 1, T, T)
                state[f"{stem}h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
                for key in [k for k in state if k.startswith(f"{stem}h.{i}.attn.c_")]:
                    state.move_to_end(key)
        self.write(directory, gpt2, state)

    def write(self, directory, gpt2, state):
        torch.save(state, directory / "pytorch_model.bin")

    def load(self, directory):
        from transformers import GPT2LMHeadModel

        model = GPT2LMHeadModel.from_pretrained(directory, output_loading_info=False)
        assert (directory / "generation_config.json").exists()
        return HfWrapper(model), trainer_optimizer(model)


class HfSharded(HfGpt2):
    def write(self, directory, gpt2, state):
        names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
        weight_map = {key: names[i % 2] for i, key in enumerate(state)}
        for name in names:
            part = OrderedDict((k, v.clone()) for k, v in state.items() if weight_map[k] == name)
            torch.save(part, directory / name)
        total = sum(v.nbytes for v in state.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))


class HfSafetensors(HfGpt2):
    shards = None

    def write(self, directory, gpt2, state):
        gpt2.save_pretrained(directory, **({} if self.shards is None else {"max_shard_size": self.shards}))
        assert (directory / "model.safetensors").exists() == (self.shards is None)


class HfWrapper(torch.nn.Module):
    """The interface of the other models."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, idx, targets=None):
        from models import with_loss

        return with_loss(self.inner(input_ids=idx).logits, targets)


class BuildLlm(Case):
    target, has_optimizer = "checkpoint_bigram_data_step000002_01012026_000000.pt", True

    def save(self, directory, model, optimizer):
        checkpoint = {
            "step": BEFORE,
            "model_state_dict": model.state_dict(),
            "optimizer_state_dict": optimizer.state_dict(),
            "hyperparameters": {**SMALL, "batch_size": 4, "model_type": "from_scratch", "use_lora": False},
            "vocab_size": SMALL["vocab_size"],
            "block_size": SMALL["block_size"],
            "batch_size": 4,
        }
        torch.save(checkpoint, directory / self.target)

    def load(self, directory):
        checkpoint = torch.load(directory / self.target, weights_only=True)
        model = self.build()
        model.load_state_dict(checkpoint["model_state_dict"])
        optimizer = adamw(model)
        optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
        return model, optimizer


def nano(**facts):
    return lambda: Gpt2Like(Config(**{**SMALL, **facts}))


HEADS = {"config": {"nHead": 2}}
MODERN = {"tie_weights": True, "pos_encoding": "rope", "mlp_type": "swiglu", "norm_type": "rmsnorm", "rope_scale": 2.0}

CASES = {
    "nanogpt": NanoGpt(nano()),
    "nanogpt compiled, without biases": NanoGpt(nano(bias=False), prefix="_orig_mod."),
    "nanogpt with masks, from DDP": NanoGpt(lambda: Gpt2Like(Config(**SMALL), mask_buffer=True), prefix="module."),
    "nanogpt state dict": Case(nano(), options=HEADS, make_optimizer=nano_optimizer),
    "mingpt": Case(
        lambda: Gpt2Like(Config(**SMALL), mini=True, mask_buffer=True), options=HEADS, make_optimizer=mini_optimizer
    ),
    "hf-gpt2": HfGpt2(),
    "hf-gpt2 base model with masks": HfGpt2(base=True, masks=torch.uint8),
    "hf-gpt2 with float masks": HfGpt2(masks=torch.float32),
    "hf-gpt2 in shards": HfSharded(),
    "hf-gpt2 safetensors": HfSafetensors(),
    "hf-gpt2 safetensors in shards": HfSafetensors(shards="4KB"),
    "hf-gpt2 of another architecture": HfGpt2(
        config={
            "activation_function": "relu", "n_inner": 20, "scale_attn_by_inverse_layer_idx": True,
            "layer_norm_epsilon": 1e-3, "tie_word_embeddings": False,
        }
    ),
    "hf-gpt2 without scaling": HfGpt2(config={"activation_function": "gelu", "scale_attn_weights": False}),
    "ng-lecture": Case(lambda: Lecture(Config(**SMALL)), options={"config": {"attentionScale": "head"}}),
    "ng-lecture, early scale": Case(
        lambda: Lecture(Config(**SMALL), scale="embd"), options={"config": {"attentionScale": "embd"}}
    ),
    "build-llm state dict": Case(lambda: Lecture(Config(**SMALL), scale="embd", norm_in_blocks=True)),
    "build-llm": BuildLlm(lambda: Lecture(Config(**SMALL), scale="embd", norm_in_blocks=True)),
    "mypt-fused": FusedBundle(lambda: Fused(FusedConfig()), make_optimizer=fused_optimizer),
    "mypt-fused with bias, one group": FusedBundle(lambda: Fused(FusedConfig(bias=True))),
    "mypt-fused modern": FusedBundle(
        lambda: Fused(FusedConfig(**MODERN)),
        make_optimizer=fused_optimizer,
        wrapper={"checkpoint_dtype": "fp32", "model_dtype": "fp32"},
    ),
}  # fmt: skip


def update(model, optimizer, batch):
    loss = model(*batch)[1]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def make(out):
    torch.manual_seed(7)
    batches = torch.randint(SMALL["vocab_size"], (6, 2, 4, SMALL["block_size"]))
    reference = {"batches": batches, "cases": {}}
    for i, (name, case) in enumerate(CASES.items()):
        torch.manual_seed(i)
        model = case.build()
        initial = {key: value.clone() for key, value in model.state_dict().items()}
        optimizer = case.make_optimizer(model)
        for batch in batches[:BEFORE]:
            update(model, optimizer, batch)
        directory = out / name
        directory.mkdir(parents=True)
        case.save(directory, model, optimizer)
        reference["cases"][name] = {
            "seed": i,
            "target": case.target,
            "options": case.options,
            "has_optimizer": case.has_optimizer,
            "initial": initial,
            "logits": model(batches[BEFORE][0])[0].detach(),
            "optimizer": copy.deepcopy(optimizer.state_dict()),
            "losses": [update(model, optimizer, batch) for batch in batches[BEFORE:]],
        }
    torch.manual_seed(1)
    bigram = torch.nn.ModuleDict({"token_embedding_table": torch.nn.Embedding(5, 5)})
    torch.save(bigram.state_dict(), out / "bigram.pt")
    torch.save(reference, out / "reference.pt")


def judge(out, names):
    batches = torch.load(out / "reference.pt", weights_only=True)["batches"]
    verdicts = {}
    for name in names:
        case = CASES[name]
        model, optimizer = case.load(out / name / "unchanged")
        losses = [update(model.train(), optimizer, batch) for batch in batches[BEFORE:]]
        model, optimizer = case.load(out / name / "trained")
        trained = [update(model.train(), optimizer, batch) for batch in batches[BEFORE + 2 :]]
        model, _ = case.load(out / name / "fitted")
        optimizer = case.make_optimizer(model)
        state = torch.load(out / name / "fitted" / "fit.pt", weights_only=True)
        groups = {"own": groups_of(optimizer.state_dict()), "fitted": groups_of(state)}
        optimizer.load_state_dict(state)
        fitted = [update(model.train(), optimizer, batch) for batch in batches[BEFORE:]]
        verdicts[name] = {
            "losses": losses,
            "trained": trained,
            "fitted": fitted,
            "groups": groups,
            "differences": compare(out / name, out / name / "unchanged"),
        }
    print(json.dumps(verdicts))


def groups_of(state):
    return [[len(group["params"]), group["weight_decay"], list(group["betas"])] for group in state["param_groups"]]


def weights_in(directory):
    """Of all files of a model."""
    found = {}
    for file in sorted(path for path in directory.iterdir() if path.suffix in (".pt", ".bin", ".safetensors")):
        value = load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
        for key in ("model", "model_state_dict", "state_dict"):
            if isinstance(value.get(key), dict):
                value = value[key]
        found.update({key: tensor for key, tensor in value.items() if isinstance(tensor, torch.Tensor)})
    return found


def cast(out, dtype, names):
    """Where the weights that Node wrote in another dtype are not those that `.to(dtype)` makes."""
    dtype = getattr(torch, dtype)
    found = {}
    for name in names:
        originals = weights_in(out / name)
        expected = {key: value.to(dtype) if value.is_floating_point() else value for key, value in originals.items()}
        for place in ("cast", "again"):
            actual = weights_in(out / name / place)
            wrong = [
                key for key in {**expected, **actual}
                if key not in expected or key not in actual or expected[key].dtype != actual[key].dtype
                or not torch.equal(expected[key].reshape(-1).view(torch.uint8), actual[key].reshape(-1).view(torch.uint8))
            ]
            if wrong:
                found[f"{name}, {place}"] = wrong
    print(json.dumps(found))


def state_in(file):
    return torch.load(file, weights_only=True)


def lecture(state, bias=False, **facts):
    model = Lecture(Config(**SMALL), bias=bias, **facts)
    model.load_state_dict(state)
    return model


def converted_mypt(path):
    config = json.loads((path / "config.json").read_text())
    state = {key.replace(".fwd.", ".ffwd."): value for key, value in state_in(path / "model.pt").items()}
    return lecture(state, bias=config["bias"])


def converted_fused(path):
    config = json.loads((path / "config.json").read_text())
    known = FusedConfig.__dataclass_fields__
    model = Fused(FusedConfig(**{key: value for key, value in config.items() if key in known}))
    model.load_state_dict(state_in(path / "model.pt"))
    return model


def converted_nanogpt(path):
    checkpoint = state_in(path)
    model = Gpt2Like(Config(**checkpoint["model_args"]))
    model.load_state_dict(checkpoint["model"])
    return model


def converted_mingpt(path):
    model = Gpt2Like(Config(**SMALL), mini=True, mask_buffer=True)
    model.load_state_dict(state_in(path))
    return model


def converted_hf(path):
    from transformers import GPT2LMHeadModel

    return HfWrapper(GPT2LMHeadModel.from_pretrained(path))


# The target programs as they are today: none of them is told what the source was.
CONVERTED = {
    "mypt": converted_mypt,
    "mypt-fused": converted_fused,
    "ng-lecture": lambda path: lecture(state_in(path)),
    "build-llm": lambda path: lecture(state_in(path), scale="embd", norm_in_blocks=True),
    "nanogpt": converted_nanogpt,
    "mingpt": converted_mingpt,
    "hf-gpt2": converted_hf,
}


def converted(out):
    reference = torch.load(out / "reference.pt", weights_only=True)
    idx = reference["batches"][BEFORE][0]
    found = {}
    for line in json.loads((out / "converted" / "list.json").read_text()):
        model = CONVERTED[line["to"]](out / "converted" / line["path"]).eval()
        with torch.no_grad():
            difference = (model(idx)[0] - reference["cases"][line["from"]]["logits"]).abs().max().item()
        found[f"{line['from']} to {line['to']}"] = difference
    print(json.dumps(found))


def compare(original, unchanged):
    """Where the files that Node wrote back say something else than those it read."""
    found = []
    for file in sorted(path for path in original.iterdir() if path.is_file()):
        other = unchanged / file.name
        if not other.exists():
            found.append(f"{file.name} is missing")
        elif file.suffix in (".pt", ".bin"):
            values = [torch.load(path, weights_only=True) for path in (file, other)]
            found += differences(*values, file.name, ordered=file.suffix == ".pt")
        elif file.suffix == ".safetensors":
            found += differences(*(load_file(path) for path in (file, other)), file.name, ordered=False)
        elif file.suffix == ".json":
            found += differences(*(json.loads(path.read_text()) for path in (file, other)), file.name, ordered=False)
    return found


def differences(a, b, where, ordered=True):
    if isinstance(a, torch.Tensor):
        same = isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b) and a.stride() == b.stride()
        return [] if same else [f"{where}: tensors differ"]
    if not ordered and isinstance(a, (int, float)) and a == b:
        return []  # JSON of Node does not tell 1.0 from 1
    if type(a) is not type(b):
        return [f"{where}: {type(a).__name__} and {type(b).__name__}"]
    if hasattr(a, "_metadata") and a._metadata != b._metadata:
        return [f"{where}: metadata differ"]
    if isinstance(a, dict):
        if (list(a) if ordered else sorted(a)) != (list(b) if ordered else sorted(b)):
            return [f"{where}: keys {list(a)} and {list(b)}"]
        # The options of a group come in the order in which a program gave them.
        return [d for k in a for d in differences(a[k], b[k], f"{where}[{k!r}]", ordered and k != "param_groups")]
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return [f"{where}: {len(a)} and {len(b)} items"]
        return [d for i, (x, y) in enumerate(zip(a, b)) for d in differences(x, y, f"{where}[{i}]", ordered)]
    return [] if a == b else [f"{where}: {a!r} and {b!r}"]


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    sys.path.append(str(Path(__file__).resolve().parents[2] / "helpers"))
    from session import serve

    serve({
        "make": lambda directory: make(Path(directory)),
        "judge": lambda directory, *names: judge(Path(directory), names),
        "cast": lambda directory, dtype, *names: cast(Path(directory), dtype, names),
        "converted": lambda directory: converted(Path(directory)),
    })
