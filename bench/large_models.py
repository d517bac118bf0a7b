"""The Python side of large-models.mjs: LoRA with peft. argv[1]: {"target": directory, "length", "batch", "updates"}"""
import json
import re
import sys
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

request = json.loads(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(request["target"])
config = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
model = get_peft_model(model, config).train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.0, fused=True)
length = request["length"]
tokens = torch.tensor([(i * 7919) % 151936 for i in range(length + 1)]).repeat(request["batch"], 1)
times, losses = [], []
for _ in range(request["updates"]):
    began = time.perf_counter()
    logits = model(tokens[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    times.append(time.perf_counter() - began)
peak = int(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1]) * 1024
print(json.dumps(dict(seconds=sorted(times[1:])[len(times[1:]) // 2], peak=peak, losses=losses)))
