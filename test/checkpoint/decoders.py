"""Tiny random decoders of transformers with reference values: python decoders.py make|generate DIRECTORY"""

import copy
import json
import os
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments
from transformers.utils import logging

SIZES = dict(
    vocab_size=61,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=64,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=None,
)
GPT2_SIZES = dict(vocab_size=61, n_embd=32, n_layer=3, n_head=4, n_positions=64, eos_token_id=None, bos_token_id=1)
NEO_SIZES = dict(
    vocab_size=61, hidden_size=32, num_layers=3, num_heads=4, max_position_embeddings=64, eos_token_id=None, bos_token_id=1
)


def rope(kind, theta=10000.0, **others):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=theta, **others))


CASES = {
    "llama": ("llama", dict(num_key_value_heads=4)),
    "llama-grouped": ("llama", dict(num_key_value_heads=2, tie_word_embeddings=True)),
    "llama-3": (
        "llama",
        dict(
            num_key_value_heads=1,
            attention_bias=True,
            mlp_bias=True,
            head_dim=10,
            **rope(
                "llama3",
                500000.0,
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=16,
            ),
        ),
    ),
    "llama-yarn": ("llama", rope("yarn", factor=4.0, original_max_position_embeddings=16)),
    "llama-linear": ("llama", rope("linear", factor=2.0)),
    "llama-dynamic": ("llama", rope("dynamic", factor=2.0)),
    "mistral": ("mistral", dict(num_key_value_heads=2, sliding_window=None)),
    "mistral-window": ("mistral", dict(num_key_value_heads=2, sliding_window=6)),
    "qwen2": ("qwen2", dict(num_key_value_heads=2, tie_word_embeddings=True)),
    "qwen2-window": (
        "qwen2",
        dict(num_key_value_heads=2, use_sliding_window=True, sliding_window=5, max_window_layers=1),
    ),
    "qwen3": ("qwen3", dict(num_key_value_heads=2, head_dim=16)),
    "qwen3-bias": ("qwen3", dict(num_key_value_heads=1, head_dim=8, attention_bias=True, tie_word_embeddings=True)),
    "smollm3": ("smollm3", dict(num_key_value_heads=2, no_rope_layers=[1, 0, 1])),
    "smollm3-untied": ("smollm3", dict(num_key_value_heads=4, tie_word_embeddings=False)),
    "olmo": ("olmo", dict(num_key_value_heads=4)),
    "olmo-grouped": ("olmo", dict(num_key_value_heads=2, tie_word_embeddings=True)),
    "olmo2": ("olmo2", dict(num_key_value_heads=2)),
    "olmo2-whole": ("olmo2", dict(num_key_value_heads=4, attention_bias=True)),
    "granite": (
        "granite",
        dict(
            num_key_value_heads=2,
            embedding_multiplier=3.0,
            residual_multiplier=0.4,
            logits_scaling=2.0,
            attention_multiplier=0.2,
        ),
    ),
    "granite-bias": ("granite", dict(num_key_value_heads=4, attention_bias=True, mlp_bias=True)),
    "gemma": ("gemma", dict(num_key_value_heads=1, head_dim=16)),
    "gemma-grouped": ("gemma", dict(num_key_value_heads=2, head_dim=8)),
    "gemma2": ("gemma2", dict(num_key_value_heads=2, head_dim=16, sliding_window=6, query_pre_attn_scalar=24)),
    "gemma2-capped": (
        "gemma2",
        dict(
            num_key_value_heads=4,
            head_dim=8,
            sliding_window=64,
            attn_logit_softcapping=2.0,
            final_logit_softcapping=1.0,
        ),
    ),
    "gemma3": ("gemma3_text", dict(num_key_value_heads=2, head_dim=16, sliding_window=6, query_pre_attn_scalar=24)),
    "gemma3-mixed": (
        "gemma3_text",
        dict(
            num_key_value_heads=1,
            head_dim=8,
            sliding_window=5,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        ),
    ),
    "stablelm": ("stablelm", dict(num_key_value_heads=2, **rope("default", partial_rotary_factor=0.25))),
    "stablelm-parallel": (
        "stablelm",
        dict(num_key_value_heads=4, use_qkv_bias=True, use_parallel_residual=True, **rope("default", partial_rotary_factor=0.5)),
    ),
    "phi": ("phi", {}),
    "phi-grouped": ("phi", dict(num_key_value_heads=2, hidden_act="gelu", **rope("default", partial_rotary_factor=0.25))),
    "phi3": ("phi3", dict(num_key_value_heads=2)),
    "phi3-long": (
        "phi3",
        dict(
            num_key_value_heads=4,
            sliding_window=20,
            original_max_position_embeddings=16,
            **rope(
                "longrope",
                short_factor=[1.0, 1.1, 1.2, 1.3],
                long_factor=[1.0, 2.0, 3.0, 4.0],
                original_max_position_embeddings=16,
            ),
        ),
    ),
    "gpt-neox": ("gpt_neox", {}),
    "gpt-neox-serial": (
        "gpt_neox",
        dict(use_parallel_residual=False, attention_bias=False, **rope("default", partial_rotary_factor=1.0)),
    ),
    "opt": ("opt", dict(ffn_dim=48, word_embed_proj_dim=32, dropout=0.0)),
    "opt-untied": (
        "opt",
        dict(ffn_dim=40, word_embed_proj_dim=32, dropout=0.0, activation_function="gelu", tie_word_embeddings=False),
    ),
    "gpt-neo": ("gpt_neo", dict(NEO_SIZES, attention_types=[[["global", "local"], 1], [["global"], 1]], window_size=6)),
    "gpt-neo-global": ("gpt_neo", dict(NEO_SIZES, attention_types=[[["global"], 3]], intermediate_size=48)),
    "gptj": ("gptj", dict(GPT2_SIZES, rotary_dim=4)),
    "gptj-whole": ("gptj", dict(GPT2_SIZES, rotary_dim=8, n_inner=48)),
    "gpt-bigcode": ("gpt_bigcode", dict(GPT2_SIZES, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)),
    "gpt-bigcode-wide": (
        "gpt_bigcode",
        dict(GPT2_SIZES, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0, n_inner=48, activation_function="gelu"),
    ),
}


def greedy(model, prompt, count):
    ids = prompt
    for _ in range(count):
        ids = torch.cat([ids, model(ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
    return ids[0, prompt.shape[1] :].tolist()


def make(directory):
    results = {}
    for number, (name, (kind, options)) in enumerate(CASES.items()):
        torch.manual_seed(number)
        sizes = {} if "n_embd" in options or "num_heads" in options else SIZES
        config = AutoConfig.for_model(kind, **{**sizes, **options})
        model = AutoModelForCausalLM.from_config(config).eval()
        # Larger weights than at the start of a training, so that attention and norms matter.
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        model.save_pretrained(f"{directory}/{name}")
        idx = torch.randint(0, 61, (2, 24))
        with torch.no_grad():
            logits = model(idx).logits
            tokens = greedy(model, idx[:1, :8], 20)
        if name == "llama":
            model.save_pretrained(f"{directory}/sharded", max_shard_size="20KB")
            half = copy.deepcopy(model).to(torch.bfloat16)
            half.save_pretrained(f"{directory}/half")
            with torch.no_grad():
                results[name] = dict(half=half(idx).logits.tolist())
        is_first = kind not in [other for other, _ in list(CASES.values())[:number]]
        run = trainer(model.train(), f"{directory}/trainer/{name}")
        losses, training = [], {}
        for step in range(14 if is_first else 10):
            losses.append(update(run, idx))
            if step == 0:
                gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
                training.update({f"gradient {key}": gradient.clone() for key, gradient in gradients.items()})
            if step == 9:
                training.update(comparable_weights(run))
                save_file(training, f"{directory}/training-{name}.safetensors")
            if step == 9 and is_first:
                # From here on it matters which parameters decay.
                run.optimizer.param_groups[0]["weight_decay"] = 0.1
                run.state.global_step = 10
                run._save_checkpoint(model, None)
            if is_first and step in (11, 13):
                torch.save(standing(run), f"{directory}/standing-{name}-{step + 1}.pt")
        results.setdefault(name, {}).update(
            idx=idx.tolist(), logits=logits.tolist(), tokens=tokens, losses=losses
        )
        if is_first:
            adapted = adapter(AutoModelForCausalLM.from_pretrained(f"{directory}/{name}"))
            adapted.save_pretrained(f"{directory}/adapters/{name}")
            with torch.no_grad():
                results[name]["adapted"] = adapted(idx).logits.tolist()
    return results


def trainer(model, directory):
    arguments = TrainingArguments(
        output_dir=directory, use_cpu=True, report_to="none", disable_tqdm=True, weight_decay=0.0, learning_rate=1e-3,
        lr_scheduler_type="constant", save_total_limit=None,
    )  # fmt: skip
    run = Trainer(model=model, args=arguments)
    run.create_optimizer_and_scheduler(20)
    return run


def update(run, idx):
    loss = run.model(idx, labels=idx).loss
    run.optimizer.zero_grad()
    loss.backward()
    run.optimizer.step()
    run.lr_scheduler.step()
    return loss.item()


def standing(run):
    """Weights and moments of AdamW by the names of the parameters."""
    names = {parameter: key for key, parameter in run.model.named_parameters()}
    values = {key: parameter.detach().clone() for parameter, key in names.items()}
    for group in run.optimizer.param_groups:
        for parameter in group["params"]:
            for part, value in run.optimizer.state.get(parameter, {}).items():
                values[f"{names[parameter]} {part}"] = value.clone()
    return values


def comparable_weights(run):
    """Weights by name, with NaN for what rounding decides: see largest_difference."""
    values = standing(run)
    return {
        key: torch.where(values[f"{key} exp_avg_sq"].sqrt() > 1e-6, value, torch.nan)
        for key, value in values.items()
        if f"{key} exp_avg_sq" in values
    }


def largest_difference(a, b):
    assert a.keys() == b.keys(), a.keys() ^ b.keys()
    found = 0.0
    for key in a:
        difference = (a[key] - b[key]).abs()
        # A bias of keys changes no result. AdamW scales what rounding leaves of its gradient up to whole steps.
        squares = a.get(f"{key} exp_avg_sq")
        if squares is not None:
            difference = difference[squares.sqrt() > 1e-6]
        found = max(found, difference.max().item() if difference.numel() > 0 else 0.0)
    return found


def adapter(base):
    """A LoRA adapter of all Linears but the head, with weights that are not those it begins with."""
    config = LoraConfig(r=2, lora_alpha=4, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(base, config).eval()
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            if "lora_" in key:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    return adapted


def generate(directory):
    """What Python makes of the models, the adapters and the checkpoints of Trainer that Node wrote."""
    with open(f"{directory}/prompts.json") as file:
        prompts = json.load(file)
    found = {}
    for name, idx in prompts.items():
        idx = torch.tensor(idx)
        model = AutoModelForCausalLM.from_pretrained(f"{directory}/trained/{name}").eval()
        with torch.no_grad():
            found[name] = dict(tokens=greedy(model, idx[:1, :8], 20))
        if not os.path.exists(f"{directory}/resumed/{name}"):
            continue
        exported = AutoModelForCausalLM.from_pretrained(f"{directory}/exported/{name}").eval()
        with torch.no_grad():
            found[name]["exported"] = greedy(exported, idx[:1, :8], 20)
        base = AutoModelForCausalLM.from_pretrained(f"{directory}/{name}")
        adapted = PeftModel.from_pretrained(base, f"{directory}/own-adapters/{name}").eval()
        with torch.no_grad():
            found[name]["logits"] = adapted(idx).logits.tolist()
        place = f"{directory}/resumed/{name}/checkpoint-12"
        run = trainer(AutoModelForCausalLM.from_pretrained(place).train(), f"{directory}/again/{name}")
        run._load_optimizer_and_scheduler(place)
        before = standing(run)
        found[name]["losses"] = [update(run, idx) for _ in range(2)]
        found[name]["differences"] = [
            largest_difference(values, torch.load(f"{directory}/standing-{name}-{step}.pt"))
            for step, values in ((12, before), (14, standing(run)))
        ]
    return found


def main(command, directory):
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    print(json.dumps({"make": make, "generate": generate}[command](directory)))


main(*sys.argv[1:])
