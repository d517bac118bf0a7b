"""The Python process of a section: reads one request per line, and answers each with one line."""

import json
import os
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "examples" / "pytorch"))

import torch  # noqa: E402


def device(request):
    answer = {"count": torch.cuda.device_count(), "bf16": torch.cuda.is_bf16_supported()}
    if torch.cuda.is_available():
        p = torch.cuda.get_device_properties(request["device"])
        answer["tf32"] = p.major >= 8
        answer["properties"] = {
            "name": p.name,
            "major": p.major,
            "minor": p.minor,
            "totalMemory": p.total_memory,
            "multiProcessorCount": p.multi_processor_count,
            "warpSize": p.warp_size,
            "maxThreadsPerMultiProcessor": p.max_threads_per_multi_processor,
            "l2CacheSize": p.L2_cache_size,
        }
    return answer


def autocast(request):
    on = request["device"]
    dtypes = {}
    for name in ("bfloat16", "float16"):
        x = torch.ones(8, 8, device=on)
        with torch.autocast(on.split(":")[0], dtype=getattr(torch, name)):
            results = [x.matmul(x), x.sum(), x.softmax(1), x.exp(), torch.nn.functional.layer_norm(x, (8,))]
        dtypes[name] = [str(result.dtype).removeprefix("torch.") for result in results]
    return {"dtypes": dtypes}


def optim(request):
    names = {"weightDecay": "weight_decay"}
    options = {names.get(key, key): value for key, value in request["options"].items()}
    start = torch.load(request["file"], map_location=request["device"])
    parameter = torch.nn.Parameter(start["weight"].clone())
    optimizer = getattr(torch.optim, request["name"])([parameter], fused=True, **options)
    for _ in range(request["steps"]):
        optimizer.zero_grad()
        start["x"].matmul(parameter).pow(2).mean().backward()
        optimizer.step()
    torch.save({"result": parameter.detach().cpu()}, request["file"])
    return {}


def random(request):
    on = request["device"]
    torch.manual_seed(request["seed"])
    drawn = {
        "rand": torch.rand(1000, device=on),
        "randn": torch.randn(1000, device=on),
        "randint": torch.randint(0, 100, (1000,), device=on),
        "randperm": torch.randperm(1000, device=on),
        "dropout": torch.nn.functional.dropout(torch.ones(1000, device=on), 0.3),
    }
    torch.save({key: tensor.cpu() for key, tensor in drawn.items()}, request["file"])
    return {}


def resume(request):
    """Opens a bundle as the example program does, makes updates, and saves it again."""
    from bundle import load_bundle, save_bundle

    model, tokenizer, optimizer, step = load_bundle(request["directory"])
    state = optimizer.state_dict()
    model.to(request["device"]).eval()
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.load_state_dict(state)
    x, y = (torch.tensor(request[name], device=request["device"]) for name in ("x", "y"))
    losses = []
    for _ in range(request["steps"]):
        _, loss = model(x, y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = model(x, y)[1].item()
    if request["save"]:
        save_bundle(request["directory"], model, tokenizer, step + request["steps"], optimizer)
    return {"losses": losses, "after": after}


def operator(request):
    a, b = (torch.ones(8, device=request["device"]) for _ in range(2))
    calls = range(request["calls"])
    for _ in calls:
        a + b
    wait(request["device"])
    began = time.perf_counter()
    for _ in calls:
        a + b
    milliseconds = (time.perf_counter() - began) * 1000 / len(calls)
    wait(request["device"])
    return {"milliseconds": milliseconds}


def step(request):
    """The mean time of an update by a GPT-2 as nanoGPT writes it; the loss is read after the last one only."""
    from gpt2 import GPT2

    on, precision = request["device"], request["precision"]
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.manual_seed(1)
    model = GPT2(request["config"]).to(on)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    run = torch.compile(model) if request["compile"] else model
    shape = (request["batch"], request["block"])
    ids = torch.randint(request["config"]["vocabSize"], shape)
    if on.startswith("cuda"):
        ids = ids.pin_memory()

    def update():
        x = ids.to(on, non_blocking=True)
        optimizer.zero_grad()
        with torch.autocast(on.split(":")[0], dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            loss = run(x, x)
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(3):
        update()
    wait(on)
    began = time.perf_counter()
    for _ in range(request["steps"]):
        loss = update()
    wait(on)
    milliseconds = (time.perf_counter() - began) * 1000 / request["steps"]
    answer = {"milliseconds": milliseconds, "loss": loss.item()}
    del model, optimizer, run
    empty(on)
    return answer


def decode(request):
    """Tokens a second of transformers' generate with its cache, greedy, in float32."""
    from transformers import GPT2Config, GPT2LMHeadModel

    on, config = request["device"], request["config"]
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.manual_seed(1)
    facts = {"vocab_size": "vocabSize", "n_positions": "blockSize", "n_embd": "nEmbd", "n_layer": "nLayer", "n_head": "nHead"}
    ours = {name: config[key] for name, key in facts.items()}
    model = GPT2LMHeadModel(GPT2Config(**ours, bos_token_id=0, eos_token_id=0)).to(on).eval()
    prompt = torch.randint(1, config["vocabSize"], (request["batch"], 4), device=on)
    count = request["tokens"]

    def generate():
        return model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            pad_token_id=0,
        )

    generate()
    wait(on)
    began = time.perf_counter()
    made = generate()
    wait(on)
    seconds = time.perf_counter() - began
    del model
    empty(on)
    return {"rate": request["batch"] * (made.shape[1] - 4) / seconds}


def wait(on):
    if on.startswith("cuda"):
        torch.cuda.synchronize()


def empty(on):
    if on.startswith("cuda"):
        torch.cuda.empty_cache()


ASKED = {f.__name__: f for f in (device, autocast, optim, random, resume, operator, step, decode)}


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print to stderr instead
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = ASKED[request["ask"]](request)
        except Exception as error:  # the check tells it, and continues
            answer = {"error": f"{type(error).__name__}: {error}\n{traceback.format_exc()}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
