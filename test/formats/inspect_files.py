"""inspect_files.py DIR: files for test/formats/inspect.test.ts and test/checkpoint/inspect.test.ts.

The hostile ones name what they would run, and are never read here.
"""

import collections
import os
import sys
import zipfile
from argparse import Namespace

import numpy
import torch
from safetensors.torch import save_file


class Runs:
    """Pickled as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def nano(layers=2, embd=12, vocab=20, block=8):
    """The keys of nanoGPT, without biases; the head is tied."""
    state = collections.OrderedDict()
    state["transformer.wte.weight"] = torch.randn(vocab, embd)
    state["transformer.wpe.weight"] = torch.randn(block, embd)
    for i in range(layers):
        for name, shape in [
            ("ln_1", (embd,)), ("attn.c_attn", (3 * embd, embd)), ("attn.c_proj", (embd, embd)),
            ("ln_2", (embd,)), ("mlp.c_fc", (4 * embd, embd)), ("mlp.c_proj", (embd, 4 * embd)),
        ]:  # fmt: skip
            state[f"transformer.h.{i}.{name}.weight"] = torch.randn(*shape)
    state["transformer.ln_f.weight"] = torch.randn(embd)
    state["lm_head.weight"] = state["transformer.wte.weight"].view(vocab, embd)
    return state


def checkpoint():
    state = nano()
    parameters = [torch.nn.Parameter(value) for name, value in state.items() if name != "lm_head.weight"]
    matrices = [p for p in parameters if p.dim() > 1]
    vectors = [p for p in parameters if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=6e-4)
    sum((p * p).sum() for p in parameters).backward()
    optimizer.step()
    return {
        "model": state,
        "optimizer": optimizer.state_dict(),
        "model_args": dict(n_layer=2, n_head=3, n_embd=12, block_size=8, bias=False, vocab_size=20, dropout=0.0),
        "iter_num": 250,
        "best_val_loss": torch.tensor(1.5),
        "config": {"learning_rate": 6e-4},
    }


def main(out):
    at = lambda name: os.path.join(out, name)  # noqa: E731
    torch.manual_seed(0)
    whole = checkpoint()
    torch.save(whole, at("nano.pt"))
    torch.save(whole, at("nano-stream.pt"), _use_new_zipfile_serialization=False)
    base = torch.arange(12.0)
    kinds = {
        "base": base,
        "view": base[2:6],
        "sparse": torch.eye(3).to_sparse(),
        "meta": torch.empty(5, 7, device="meta"),
        "quantized": torch.quantize_per_tensor(torch.ones(4), 0.5, 1, torch.qint8),
        "array": numpy.zeros((2, 3), dtype=numpy.float32),
        "parameter": torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16)),
        "list": [torch.zeros(1), {"deep": torch.zeros(2)}],
        "options": Namespace(lr=1.0),
    }
    torch.save(kinds, at("kinds.pt"))
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()), at("module.pt"))
    torch.save({"w": torch.ones(3), "x": Runs(os.system, "touch " + at("harm"))}, at("hostile.pt"))
    torch.save({"w": torch.ones(3), "x": Runs(eval, "1")}, at("hostile-stream.pt"), _use_new_zipfile_serialization=False)
    with open(at("bare.pt"), "wb") as file:
        file.write(b"cos\nsystem\n(S'touch " + at("harm").encode() + b"'\ntR.")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 3)), at("script.pt"))
    tensors = {"a": torch.zeros(3, 4), "b": torch.zeros(5, dtype=torch.bfloat16)}
    save_file(tensors, at("two.safetensors"), metadata={"format": "pt"})
    with zipfile.ZipFile(at("nano.pt")) as source, zipfile.ZipFile(at("deflated.pt"), "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    torch.serialization.set_crc32_options(False)
    torch.save({"w": torch.ones(3)}, at("zero.pt"))


main(sys.argv[1])
