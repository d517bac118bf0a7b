"""The transformers side of batching.mjs: one request a line, one answer a line."""
import json
import sys
import time

import torch

try:
    import transformers
except ImportError:
    transformers = None

model = None


def describe(threads):
    torch.set_num_threads(threads)
    return {'transformers': transformers and transformers.__version__}


def make(dtype, vocabSize, blockSize, nLayer, nHead, nEmbd):
    global model
    config = transformers.GPT2Config(
        vocab_size=vocabSize, n_positions=blockSize, n_layer=nLayer, n_head=nHead, n_embd=nEmbd, bos_token_id=None, eos_token_id=None
    )
    model = transformers.GPT2LMHeadModel(config).to(getattr(torch, dtype)).eval()
    return {}


def generate(prompts, tokens):
    idx = torch.tensor(prompts)  # (B, T)
    began, used = time.perf_counter(), time.process_time()
    result = model.generate(idx, attention_mask=torch.ones_like(idx), do_sample=False, max_new_tokens=tokens, pad_token_id=0)
    assert result.shape[1] == idx.shape[1] + tokens
    return {'clock': time.perf_counter() - began, 'cpu': time.process_time() - used}


for line in sys.stdin:
    request = json.loads(line)
    work = {'describe': describe, 'make': make, 'generate': generate}[request.pop('work')]
    print(json.dumps(work(**request)), flush=True)
