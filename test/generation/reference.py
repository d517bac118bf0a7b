"""
Models of transformers with random weights, and what transformers generates from them: texts for each case of options,
log-probabilities, hidden states, attentions, and losses over windows. usage: reference.py directory cases.json
"""

import json
import math
import sys
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerFast,
)

directory, posted = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
cases, characters = posted["cases"], posted["characters"]
V, T, PAD, EOS = 40, 48, 1, 5


class Successor(LogitsProcessor):
    """Favours the id after the last one, and forbids id 7."""

    def __call__(self, input_ids, scores):
        scores = scores.scatter_add(1, (input_ids[:, -1:] + 1) % V, torch.full((len(scores), 1), 2.0))
        scores[:, 7] = -math.inf
        return scores


def tokenizer():
    """A token for each character, as transformers needs it for texts that stop the generation."""
    own = Tokenizer(WordLevel({c: i for i, c in enumerate(characters)}, unk_token=characters[0]))
    own.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    own.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=own)


def models():
    torch.manual_seed(0)
    common = {"vocab_size": V, "bos_token_id": 0, "eos_token_id": EOS, "pad_token_id": PAD, "attn_implementation": "eager"}
    gpt2 = GPT2LMHeadModel(GPT2Config(n_positions=T, n_embd=32, n_layer=2, n_head=2, initializer_range=0.4, **common))
    llama = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=T,
            initializer_range=0.3,
            **common,
        )
    )
    for name, model in {"gpt2": gpt2, "llama": llama}.items():
        model.eval()
        # Defaults that say nothing: each case says all.
        model.generation_config = type(model.generation_config)(
            eos_token_id=EOS, pad_token_id=PAD, bos_token_id=0, do_sample=True, top_k=7, temperature=0.7, max_new_tokens=9
        )
        model.save_pretrained(directory / name)
        yield name, model


def padded(prompts):
    """(B, T) with the shorter prompts filled up on the left, and what is filled up."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    return ids, mask


def generated(model, prompts, options, seed):
    ids, mask = padded(prompts)
    torch.manual_seed(seed)
    settings = {"do_sample": False, "top_k": 0, "temperature": 1.0, "eos_token_id": -1, **options}
    if settings["eos_token_id"] == -1:
        settings["eos_token_id"] = None
    if settings.pop("successor", False):
        settings["logits_processor"] = LogitsProcessorList([Successor()])
    if "stop_strings" in settings:
        settings["tokenizer"] = tokenizer()
    out = model.generate(
        ids, attention_mask=mask, return_dict_in_generate=True, output_scores=True, pad_token_id=PAD, **settings
    )
    scores = getattr(out, "sequences_scores", None)
    return {
        "tokens": out.sequences[:, ids.shape[1] :].tolist(),
        "scores": None if scores is None else scores.tolist(),
    }


def likeliest(model, prompt, count):
    """The log-probabilities of greedily generated tokens and of the three likeliest ones."""
    settings = {"do_sample": False, "max_new_tokens": count, "eos_token_id": None, "pad_token_id": PAD}
    ids, mask = padded([prompt])
    out = model.generate(ids, attention_mask=mask, return_dict_in_generate=True, output_logits=True, **settings)
    tops = [step.log_softmax(-1)[0].topk(3) for step in out.logits]
    return [[top.indices.tolist(), top.values.tolist()] for top in tops]


def windows_loss(model, ids, size, stride):
    """The plain loop of the documentation of transformers on perplexity, with windows of `size` predictions."""
    total, count, covered = 0.0, 0, 0
    for start in range(0, len(ids) - 1, stride):
        end = min(start + size, len(ids) - 1)
        logits = model(torch.tensor([ids[start:end]])).logits[0]
        targets = torch.tensor(ids[start + 1 : end + 1])
        targets[: len(targets) - (end - covered)] = -100
        total += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
        count += end - covered
        covered = end
        if covered == len(ids) - 1:
            break
    return total / count


result = {}
with torch.no_grad():
    for name, model in models():
        texts = [[generated(model, c["prompts"], c["options"], seed) for seed in c["seeds"]] for c in cases]
        idx = torch.tensor([[3, 9, 14, 2, 30, 7, 7, 21, 0, 11]])
        out = model(idx, output_hidden_states=True, output_attentions=True)
        ids = [(i * i * 7 + 3 * i) % V for i in range(150)]
        embedded = []
        for text in ([4, 5, 6], ids[:20], [9]):
            hidden = model(torch.tensor([text]), output_hidden_states=True).hidden_states
            mean = torch.nn.functional.normalize(hidden[-1].mean(1), dim=-1)[0]
            embedded.append({"mean": mean.tolist(), "last": hidden[1][0, -1].tolist(), "first": hidden[0][0, 0].tolist()})
        result[name] = {
            "texts": texts,
            "likeliest": likeliest(model, [1, 9, 14], 6),
            "hiddenStates": [h[0].tolist() for h in out.hidden_states],
            "attentions": [a[0].tolist() for a in out.attentions],
            "embedded": embedded,
            "losses": [windows_loss(model, ids, size, stride) for size, stride in ((T, T), (T, 20), (16, 5), (16, 16))],
        }
assert all(math.isfinite(loss) for r in result.values() for loss in r["losses"])
print(json.dumps(result))
