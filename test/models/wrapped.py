"""Models in PyTorch's own wrappers, for test/models/wrapped.test.ts.

python wrapped.py make OUT      OUT/<name>.pt for each wrapper: {"state_dict": ..., "logits": ..., "tokens": ...}
python wrapped.py judge OUT     whether each OUT/<name>-saved.pt has the keys, order, metadata and values of the original, as JSON
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "checkpoint" / "families"))
import torch  # noqa: E402
from models import Config, Gpt2Like  # noqa: E402
from torch import nn  # noqa: E402
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper  # noqa: E402
from torch.optim.swa_utils import AveragedModel  # noqa: E402

SMALL = {"n_layer": 2, "n_head": 2, "n_embd": 8, "block_size": 8, "vocab_size": 19, "dropout": 0.0}


class Holder(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.net = model


def compiled_blocks(model):
    for i, block in enumerate(model.transformer.h):
        model.transformer.h[i] = torch.compile(block)
    return model


def checkpointed_blocks(model):
    for i, block in enumerate(model.transformer.h):
        model.transformer.h[i] = checkpoint_wrapper(block)
    # Its hooks take the name out again; files of programs that save other modules' state dicts keep it.
    for block in model.transformer.h:
        block._state_dict_hooks.clear()
    return model


class Sharded(nn.Module):
    """FullyShardedDataParallel keeps the module under this name, and needs a process group to be made."""

    def __init__(self, model):
        super().__init__()
        self._fsdp_wrapped_module = model


WRAPPERS = {
    "compiled": torch.compile,
    "compiled-blocks": compiled_blocks,
    "parallel": nn.DataParallel,
    "parallel-of-compiled": lambda model: nn.DataParallel(torch.compile(model)),
    "compiled-parallel-of-blocks": lambda model: torch.compile(nn.DataParallel(compiled_blocks(model))),
    "checkpointed-blocks": checkpointed_blocks,
    "sharded": Sharded,
    "averaged": AveragedModel,
    "attribute": Holder,
    "attribute-of-parallel": lambda model: nn.DataParallel(Holder(compiled_blocks(model))),
}


def make(out):
    for name, wrap in WRAPPERS.items():
        torch.manual_seed(1)
        model = Gpt2Like(Config(**SMALL)).eval()
        tokens = torch.randint(0, 19, (2, 8))
        with torch.no_grad():
            logits = model(tokens, tokens)[0]
        state = wrap(model).state_dict()
        torch.save({"state_dict": state, "tokens": tokens, "logits": logits}, out / f"{name}.pt")
        torch.save(state, out / f"{name}-bare.pt")


def judge(out):
    verdicts = {}
    for name in WRAPPERS:
        before = torch.load(out / f"{name}-bare.pt", weights_only=True)
        after = torch.load(out / f"{name}-saved.pt", weights_only=True)
        verdicts[name] = {
            "keys": list(before) == list(after),
            "metadata": list(before._metadata) == list(after._metadata),
            "values": all(torch.equal(before[key], after[key]) for key in before),
        }
    print(json.dumps(verdicts))


if __name__ == "__main__":
    {"make": make, "judge": judge}[sys.argv[1]](Path(sys.argv[2]))
