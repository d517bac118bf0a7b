"""The Python tokenizers that hugging-face.test.ts compares with.

argv[1]: directory with strings.json (a list of texts), gpt2/vocab.json and gpt2/merges.txt. Writes further tokenizers there, each
in a directory of its own, and results.json: for each its ids of every text, texts of random ids, and encodings with special tokens:
a digest of each, and the first ones whole. Offsets count UTF-16 code units, as in Node.
"""
import hashlib
import itertools
import json
import pickle
import random
import sys
from pathlib import Path

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

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

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def engine(model, trainer, normalizer, pre_tokenizer, decoder, post=None):
    tokenizer = Tokenizer(model)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    if decoder is not None:
        tokenizer.decoder = decoder
    # Of ASCII, so that the alphabet fits small vocabularies: other characters show what is unknown.
    tokenizer.train_from_iterator([text for text in texts if text.isascii()][:1000], trainer)
    if post is not None:
        tokenizer.post_processor = post
    return tokenizer


def template(first, last=None):
    ids = [(token, place) for place, token in enumerate([first] + ([last] if last else []))]
    return processors.TemplateProcessing(single=f"{first} $A {last}" if last else f"{first} $A", special_tokens=ids)


def byte_fallback(**more):
    return trainers.BpeTrainer(vocab_size=1200, show_progress=False, special_tokens=["<s>", "</s>", "<unk>"] + BYTES, **more)


def without_merged_bytes(tokenizer, **model):
    """The byte tokens are of the vocabulary, and not added ones."""
    json_ = json.loads(tokenizer.to_str())
    json_["added_tokens"] = [t for t in json_["added_tokens"] if not t["content"].startswith("<0x")]
    json_["model"].update(byte_fallback=True, **model)
    return Tokenizer.from_str(json.dumps(json_))


llama_decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
gemma_decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
made["llama2"] = without_merged_bytes(engine(
    models.BPE(unk_token="<unk>", fuse_unk=True), byte_fallback(limit_alphabet=80),
    normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]), None, llama_decoder,
    template("<s>")))
made["mistral"] = without_merged_bytes(engine(
    models.BPE(unk_token="<unk>", fuse_unk=True), byte_fallback(limit_alphabet=80), normalizers.NFC(),
    pre_tokenizers.Metaspace(prepend_scheme="first", split=False), llama_decoder, template("<s>")))
made["gemma"] = without_merged_bytes(engine(
    models.BPE(unk_token="<unk>", fuse_unk=True), byte_fallback(limit_alphabet=80),
    normalizers.Replace(" ", "\u2581"), pre_tokenizers.Split(" ", "merged_with_previous"), gemma_decoder,
    template("<s>")))
made["unigram"] = engine(
    models.Unigram(), trainers.UnigramTrainer(vocab_size=300, show_progress=False, special_tokens=["<first>", "<last>", "<none>"],
                                              unk_token="<none>"),
    normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]), pre_tokenizers.Metaspace(),
    decoders.Metaspace(), template("<first>", "<last>"))
made["wordpiece"] = engine(
    models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer(vocab_size=900, show_progress=False,
                                                                   special_tokens=["[CLS]", "[SEP]", "[UNK]"]),
    normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), decoders.WordPiece(), template("[CLS]", "[SEP]"))
made["wordlevel"] = engine(
    models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer(vocab_size=900, show_progress=False,
                                                                   special_tokens=["[CLS]", "[SEP]", "[UNK]"]),
    normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]),
    pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]), None,
    template("[CLS]", "[SEP]"))
made["bpe-suffix"] = engine(
    models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"),
    trainers.BpeTrainer(vocab_size=900, show_progress=False, special_tokens=["<unk>"], end_of_word_suffix="</w>"),
    normalizers.Lowercase(), pre_tokenizers.WhitespaceSplit(), decoders.BPEDecoder())
made["mistral"].add_tokens([AddedToken("<mask>", lstrip=True), AddedToken("user", single_word=True)])

trained = {}
for name, size, frequency, special in [("small", 700, 0, ["<|endoftext|>"]), ("large", 3000, 2, ["<a>", "<b>"])]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = byte_level(add_prefix_space=False)
    tokenizer.train_from_iterator(texts[:3000], trainers.BpeTrainer(
        vocab_size=size, min_frequency=frequency, special_tokens=special, show_progress=False,
        initial_alphabet=byte_level.alphabet()))
    trained[name] = json.loads(tokenizer.to_str())["model"]
(root / "trained.json").write_text(json.dumps(trained))

WITH_OFFSETS = ["llama2", "mistral", "gemma", "unigram", "wordpiece", "wordlevel", "bpe-suffix", "llama3", "small"]

# Where each code point of a text begins, in code units.
starts = [[0, *itertools.accumulate(1 + (character > "\uffff") for character in text)] for text in texts]


def encodings(tokenizer):
    return [[e.ids, e.tokens, [[start[a], start[b]] for a, b in e.offsets], e.special_tokens_mask]
            for e, start in zip(tokenizer.encode_batch(texts), starts)]


as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def digest(encoding):
    return hashlib.sha256(as_json(encoding).encode()).hexdigest()[:16]


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
    if name in WITH_OFFSETS:
        whole = encodings(tokenizer)
        results[name].update(encodings=whole[:200], digests=[digest(encoding) for encoding in whole])

# nanoGPT's prepare.py, but for the order.
chars = sorted(set("".join(texts)))
random.Random(1).shuffle(chars)
stoi = {ch: i for i, ch in enumerate(chars)}
meta = {"vocab_size": len(chars), "itos": {i: ch for i, ch in enumerate(chars)}, "stoi": stoi}
(root / "char").mkdir()
(root / "char/meta.pkl").write_bytes(pickle.dumps(meta))
results["char"] = {"ids": [[stoi[c] for c in text] for text in texts], "decoded": []}

(root / "results.json").write_text(json.dumps(results))
