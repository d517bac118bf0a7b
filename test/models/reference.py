"""The example program's model, and its relatives that differ in one fact of architecture each.

    python reference.py OUT.pt             what PyTorch computes for every case
    python reference.py --judge DIR CASE...   whether bundles that Node wrote are what PyTorch's own would be
"""

import json
import sys
from pathlib import Path

import torch
import torch.nn as nn

sys.path.insert(0, str(Path(__file__).parents[2] / "examples/pytorch"))
import model as program  # noqa: E402

SMALL = {
    "batch_size": 3, "block_size": 8, "vocab_size": 11, "n_embd": 12, "n_head": 3, "n_layer": 2,
    "dropout": 0.0, "bias": False, "device": "cpu",
}  # fmt: skip

# Fields next to the nine of the example program say how the case differs from it.
CASES = {
    "seed": {},
    "bias": {"bias": True},
    "one head, one layer": {"n_head": 1, "n_layer": 1},
    "gelu": {"activation": "gelu"},
    "gelu tanh": {"activation": "gelu_tanh"},
    "scale by channels": {"attention_scale": "embd"},
    "no biases": {"proj_bias": False, "mlp_bias": False, "norm_bias": False, "lm_head_bias": False},
    "tied": {"tie_weights": True},
    "post-norm": {"norm_position": "post"},
    "lecture": {"layout": "ng-lecture"},
}

SEED, UPDATES, GREEDY = 42, 4, 20


class PostNormBlock(program.Block):
    def forward(self, x):
        x = self.ln1(x + self.sa(x))
        return self.ln2(x + self.fwd(x))


class ChannelScaledHead(program.Head):
    def forward(self, x):
        T, C = x.shape[1:]
        k, q, v = self.key(x), self.query(x), self.value(x)
        scores = q @ k.transpose(-2, -1) * C**-0.5
        scores = scores.masked_fill(self.tril[:T, :T] == 0, float("-inf"))
        return self.dropout(scores.softmax(-1)) @ v


class LectureBlock(program.Block):
    """The MLP goes by another name, at the same place."""

    def __init__(self, config):
        super().__init__(config)
        fwd, ln1, ln2 = self.fwd, self.ln1, self.ln2
        del self.fwd, self.ln1, self.ln2
        self.ffwd, self.ln1, self.ln2 = fwd, ln1, ln2

    def forward(self, x):
        x = x + self.sa(self.ln1(x))
        return x + self.ffwd(self.ln2(x))


def lecture_init(module):
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, mean=0.0, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, mean=0.0, std=0.02)


def build(facts):
    block = {"post": PostNormBlock}.get(facts.get("norm_position"), program.Block)
    block = LectureBlock if facts.get("layout") == "ng-lecture" else block
    head = ChannelScaledHead if facts.get("attention_scale") == "embd" else program.Head
    own = program.Block, program.Head
    program.Block, program.Head = block, head
    try:
        config = program.GPTConfig(**{k: facts.get(k, v) for k, v in SMALL.items()})
        model = program.GPT(config)
    finally:
        program.Block, program.Head = own
    if facts.get("layout") == "ng-lecture":
        model.apply(lecture_init)
    for block in model.blocks:
        if "activation" in facts:
            block.fwd.net[1] = nn.GELU(approximate="tanh" if facts["activation"] == "gelu_tanh" else "none")
        drop_biases(facts.get("proj_bias"), [block.sa.proj])
        if facts.get("mlp_bias") is False:
            drop_biases(False, [block.fwd.net[0], block.fwd.net[2]])
        drop_biases(facts.get("norm_bias"), [block.ln1, block.ln2])
    drop_biases(facts.get("norm_bias"), [model.ln_f])
    drop_biases(facts.get("lm_head_bias"), [model.lm_head])
    if facts.get("tie_weights"):
        model.lm_head.weight = model.token_embedding_table.weight
    return model


def drop_biases(has_bias, modules):
    if has_bias is False:
        for module in modules:
            module.bias = None


def case(facts):
    torch.manual_seed(SEED)
    model = build(facts)
    initial = {k: v.clone() for k, v in model.state_dict().items()}
    batches = torch.randint(SMALL["vocab_size"], (UPDATES, 2, 3, SMALL["block_size"]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for idx, targets in batches:
        logits, loss = model(idx, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if not losses:
            first = logits.detach()
            grads = {k: p.grad.clone() for k, p in model.named_parameters()}
        optimizer.step()
        losses.append(loss.detach())
    greedy = model.generate(batches[0, 0, :1, :3], GREEDY, temperature=0)
    return {
        "config": {**SMALL, **{k: v for k, v in facts.items() if k != "layout"}},
        "layout": facts.get("layout", "mypt"),
        "initial": initial,
        "batches": batches,
        "logits": first,
        "grads": grads,
        "losses": losses,
        "final": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "greedy": greedy,
    }


def judge(directory, names):
    """What Node trained and saved: loads strictly, has the reference's form, and continues."""
    verdicts = {}
    for name in names:
        model = build(CASES[name])
        state = torch.load(directory / f"{name}.model.pt", weights_only=True)
        optimizer = torch.optim.AdamW(model.parameters(), lr=99.0)
        model.load_state_dict(state)
        saved = torch.load(directory / f"{name}.optimizer.pt", weights_only=True)
        optimizer.load_state_dict(saved)
        own = optimizer.state_dict()
        idx, targets = torch.load(directory / f"{name}.batch.pt", weights_only=True)
        _, loss = model(idx, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        torch.save(model.state_dict(), directory / f"{name}.next.pt")
        verdicts[name] = {
            "keys": list(state) == list(model.state_dict()),
            "metadata": state._metadata == model.state_dict()._metadata,
            "groups": saved["param_groups"] == own["param_groups"],
            "steps": all(s["step"].device.type == "cpu" and s["step"].shape == () for s in saved["state"].values()),
            "loss": loss.item(),
        }
    print(json.dumps(verdicts))


if sys.argv[1] == "--judge":
    judge(Path(sys.argv[2]), sys.argv[3:])
else:
    torch.save({name: case(facts) for name, facts in CASES.items()}, sys.argv[1])
