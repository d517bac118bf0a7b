"""GPT-2's byte-pair encoding by its definition, with the standard library alone: the oracle of gpt2.test.ts.

argv[1]: JSON file {"ranks": [base64 token by rank], "texts": [...]}. Prints the ids of each text.
"""
import base64
import json
import sys
import unicodedata

WHITE_SPACE = set(map(chr, [*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B),
                            0x2028, 0x2029, 0x202F, 0x205F, 0x3000]))
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"]


def kind(char):
    if char in WHITE_SPACE:
        return "space"
    return {"L": "letter", "N": "number"}.get(unicodedata.category(char)[0], "other")


def split(text):
    """'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"""
    i = 0
    while i < len(text):
        end = next((i + len(c) for c in CONTRACTIONS if text.startswith(c, i)), None)
        if end is None:
            start = i + 1 if text[i] == " " and i + 1 < len(text) and kind(text[i + 1]) != "space" else i
            what = kind(text[start])
            end = start
            while end < len(text) and kind(text[end]) == what:
                end += 1
            # \s+(?!\S): a run of white space leaves its last character to what follows.
            if what == "space" and end < len(text) and end - i > 1:
                end -= 1
        yield text[i:end]
        i = end


def encode_piece(piece, ranks):
    parts = [bytes([b]) for b in piece]
    while True:
        pairs = [(ranks[a + b], i) for i, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in ranks]
        if not pairs:
            return [ranks[part] for part in parts]
        _, i = min(pairs)
        parts[i:i + 2] = [parts[i] + parts[i + 1]]


with open(sys.argv[1], encoding="utf-8") as f:
    case = json.load(f)
ranks = {base64.b64decode(token): rank for rank, token in enumerate(case["ranks"])}
print(json.dumps([[t for p in split(text) for t in encode_piece(p.encode("utf-8"), ranks)] for text in case["texts"]]))
