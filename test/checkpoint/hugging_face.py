"""Directories of Hugging Face and of PyTorch as people have them, for test/checkpoint/hugging-face.test.ts.

    python hugging_face.py OUT
"""

import json
import os
import sys
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from safetensors.torch import save_model  # noqa: E402
from transformers import (  # noqa: E402
    GPT2Config,
    GPT2LMHeadModel,
    GPTBigCodeConfig,
    GPTBigCodeForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)


def gpt2():
    torch.manual_seed(1)
    return GPT2LMHeadModel(
        GPT2Config(n_layer=1, n_head=2, n_embd=8, n_positions=8, vocab_size=12, bos_token_id=0, eos_token_id=0)
    ).eval()


def rewrite(file, change):
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config, indent=2))


def main(out):
    model = gpt2()
    idx = torch.arange(6)[None]
    torch.save({"idx": idx, "logits": model(idx).logits.detach()}, out / "reference.pt")

    model.save_pretrained(out / "plain")
    model.config.save_pretrained(out / "tied")
    save_model(model, str(out / "tied" / "model.safetensors"))

    model.save_pretrained(out / "nan")
    rewrite(out / "nan" / "config.json", lambda c: c.update(best_loss=float("inf"), last_loss=float("nan"), low=-float("inf")))
    GPT2LMHeadModel.from_pretrained(out / "nan")

    # As pytorch-transformers 1.0 wrote it.
    model.save_pretrained(out / "old")
    (out / "old" / "config.json").write_text(
        json.dumps(
            dict(
                attn_pdrop=0.1, embd_pdrop=0.1, finetuning_task=None, initializer_range=0.02, layer_norm_epsilon=1e-05, n_ctx=8,
                n_embd=8, n_head=2, n_layer=1, n_positions=8, num_labels=1, output_attentions=False, output_hidden_states=False,
                pruned_heads={}, resid_pdrop=0.1, summary_activation=None, summary_first_dropout=0.1, summary_proj_to_labels=True,
                summary_type="cls_index", summary_use_proj=True, torchscript=False, vocab_size_or_config_json_file=12,
            ),
            indent=2,
        )
    )  # fmt: skip

    small = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=12)
    MixtralForCausalLM(MixtralConfig(**small, intermediate_size=16, num_local_experts=2)).save_pretrained(out / "mixtral")
    code = dict(n_layer=1, n_head=2, n_embd=8, n_positions=8, vocab_size=12, bos_token_id=0, eos_token_id=0)
    GPTBigCodeForCausalLM(GPTBigCodeConfig(**code, multi_query=False)).save_pretrained(out / "bigcode")
    multi_query = GPTBigCodeForCausalLM(GPTBigCodeConfig(**code, multi_query=True))
    torch.save(multi_query.state_dict(), out / "multi_query.pt")

    lora = get_peft_model(gpt2(), LoraConfig(r=2, lora_alpha=4, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM"))
    lora.save_pretrained(out / "adapter")
    torch.save(lora.state_dict(), out / "lora.pt")
    lora.save_pretrained(out / "adapter-old")
    # PEFT 0.2, and a version that is yet to come.
    (out / "adapter-old" / "adapter_config.json").write_text(
        json.dumps(
            dict(
                base_model_name_or_path="gpt2", bias="none", enable_lora=None, fan_in_fan_out=True, inference_mode=True, lora_alpha=4,
                lora_dropout=0.0, merge_weights=False, modules_to_save=None, peft_type="LORA", r=2, target_modules=["c_attn"],
                task_type="CAUSAL_LM", loss_at_end=float("nan"),
            )
        )
    )  # fmt: skip
    lora.save_pretrained(out / "adapter-new")
    rewrite(out / "adapter-new" / "adapter_config.json", lambda c: c.update(lora_of_tomorrow={"x": 1}))

    state = model.state_dict()
    torch.save({key: torch.empty(0) for key in state}, out / "zero3.pt")
    torch.save({key: value if value.ndim == 1 else value.flatten() for key, value in state.items()}, out / "flat.pt")
    torch.save({"transformer.h.0._flat_param": torch.zeros(9)}, out / "flat_param.pt")


main(Path(sys.argv[1]))
