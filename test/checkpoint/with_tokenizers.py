"""Checkpoints with tokenizers, as Hugging Face and nanoGPT leave them, and what their own code generates from them.

argv[1]: directory to write into: hf/ and nanogpt/out/ckpt.pt with nanogpt/data/letters/meta.pkl. Prints JSON.
"""
import json
import pickle
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

root = Path(sys.argv[1])
prompt = "The quick 狐 🙂"

tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.train_from_iterator(["The quick brown fox jumps over the lazy dog. 狐 🙂"] * 9, trainers.BpeTrainer(
    vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False,
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>")

torch.manual_seed(0)
config = GPT2Config(vocab_size=320, n_positions=32, n_embd=24, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=None,
                    initializer_range=0.5)
model = GPT2LMHeadModel(config).eval()
model.save_pretrained(root / "hf")
fast.save_pretrained(root / "hf")
ids = torch.tensor([fast.encode(prompt, add_special_tokens=False)])
with torch.no_grad():
    out = model.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=0)[0].tolist()

chars = list("zeta b\n")
state = {"transformer.wte.weight": torch.randn(len(chars), 8), "transformer.wpe.weight": torch.randn(16, 8),
         "transformer.ln_f.weight": torch.ones(8)}
for name, shape in {"ln_1": (8,), "attn.c_attn": (24, 8), "attn.c_proj": (8, 8), "ln_2": (8,), "mlp.c_fc": (32, 8),
                    "mlp.c_proj": (8, 32)}.items():
    state[f"transformer.h.0.{name}.weight"] = torch.randn(shape)
state["lm_head.weight"] = state["transformer.wte.weight"]
args = dict(n_layer=1, n_head=2, n_embd=8, block_size=16, bias=False, vocab_size=len(chars), dropout=0.0)
for directory in ("nanogpt/out", "nanogpt/data/letters"):
    (root / directory).mkdir(parents=True)
torch.save({"model": state, "model_args": args, "iter_num": 5, "best_val_loss": torch.tensor(1.0),
            "config": {"dataset": "letters"}}, root / "nanogpt/out/ckpt.pt")
meta = {"vocab_size": len(chars), "itos": dict(enumerate(chars)), "stoi": {c: i for i, c in enumerate(chars)}}
(root / "nanogpt/data/letters/meta.pkl").write_bytes(pickle.dumps(meta))

print(json.dumps({"prompt": prompt, "ids": ids[0].tolist(), "out": out, "text": tokenizer.decode(out, skip_special_tokens=False)}))
