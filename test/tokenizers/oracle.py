"""The Python tokenizers that hugging-face.test.ts compares with.

argv[1]: directory with strings.json (a list of texts), gpt2/vocab.json and gpt2/merges.txt. Writes further tokenizers there, each
in a directory of its own, and results.json: for each its ids of every text, and texts of random ids.
"""
import json
import pickle
import random
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

root = Path(sys.argv[1])
texts = json.loads((root / "strings.json").read_text(encoding="utf-8"))

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def train(pre_tokenizer, normalizer=None, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=1200, special_tokens=["<|endoftext|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts[:3000], trainer)
    return tokenizer


gpt2 = Tokenizer(models.BPE.from_file(str(root / "gpt2/vocab.json"), str(root / "gpt2/merges.txt")))
gpt2.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
gpt2.decoder = decoders.ByteLevel()
gpt2.add_special_tokens(["<|endoftext|>"])

byte_level = pre_tokenizers.ByteLevel
split = pre_tokenizers.Split
made = {
    "small": train(byte_level(add_prefix_space=False)),
    "llama3": train(pre_tokenizers.Sequence([split(Regex(LLAMA3), "isolated"),
                                             byte_level(add_prefix_space=False, use_regex=False)]), ignore_merges=True),
    "qwen": train(pre_tokenizers.Sequence([split(Regex(LLAMA3), "isolated"),
                                           byte_level(add_prefix_space=False, use_regex=False)]), normalizers.NFC()),
    "digits": train(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                             byte_level(add_prefix_space=True)])),
    "removed": train(pre_tokenizers.Sequence([split(" ", "removed"), byte_level(add_prefix_space=False)])),
}
made["llama3"].add_tokens([AddedToken("<user>", normalized=False), AddedToken(" <pad> ")])
made["qwen"].add_special_tokens(["<user>"])

results = {}
for name, tokenizer in {"gpt2": gpt2, **made}.items():
    if name != "gpt2":
        (root / name).mkdir()
        tokenizer.save(str(root / name / "tokenizer.json"))
    draw = random.Random(0)
    some = [[draw.randrange(tokenizer.get_vocab_size()) for _ in range(draw.randrange(1, 12))] for _ in range(1000)]
    results[name] = {
        "ids": [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)],
        "decoded": [[ids, tokenizer.decode(ids, skip_special_tokens=False)] for ids in some],
    }

# nanoGPT's prepare.py, but for the order.
chars = sorted(set("".join(texts)))
random.Random(1).shuffle(chars)
stoi = {ch: i for i, ch in enumerate(chars)}
meta = {"vocab_size": len(chars), "itos": {i: ch for i, ch in enumerate(chars)}, "stoi": stoi}
(root / "char").mkdir()
(root / "char/meta.pkl").write_bytes(pickle.dumps(meta))
results["char"] = {"ids": [[stoi[c] for c in text] for text in texts], "decoded": []}

(root / "results.json").write_text(json.dumps(results))
