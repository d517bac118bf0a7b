"""Trains a character GPT and saves it as a bundle that Node opens with GPT.load(directory).

    python train.py --input ../data/richard.txt --out ../checkpoints/shakespeare-char
    python train.py --resume --input ../data/shrew.txt --out ../checkpoints/shakespeare-char --steps 500
"""

import argparse
import time

import torch

from bundle import CharTokenizer, load_bundle, make_optimizer, save_bundle
from model import GPT, GPTConfig


def main():
    args = parse_arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    with open(args.input, encoding="utf-8") as file:
        text = file.read()

    if args.resume:
        model, tokenizer, optimizer, start = load_bundle(args.out)
    else:
        tokenizer = CharTokenizer.of_text(text)
        model = GPT(config_from(args, len(tokenizer.chars)))
        optimizer, start = make_optimizer(model, args.learning_rate), 0
    tokens = torch.tensor(tokenizer.encode(text))
    cut = int(0.9 * len(tokens))
    splits = {"train": tokens[:cut], "val": tokens[cut:]}
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokens):,} tokens, from step {start}")

    began = time.time()
    for step in range(start, start + args.steps):
        if (step - start) % args.eval_interval == 0:
            report(step, model, splits, began)
        _, loss = model(*random_windows(splits["train"], model.config))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    report(start + args.steps, model, splits, began)
    save_bundle(args.out, model, tokenizer, start + args.steps, optimizer)
    print(f"saved {args.out}")


def random_windows(tokens, config):
    """Inputs and targets, both (B, T): windows at random places, and the same windows one token later."""
    starts = torch.randint(len(tokens) - config.block_size, (config.batch_size,))
    window = torch.arange(config.block_size)
    at = starts[:, None] + window  # (B, T)
    return tokens[at], tokens[at + 1]


@torch.no_grad()
def mean_loss(model, tokens, batches=20):
    model.eval()
    loss = sum(model(*random_windows(tokens, model.config))[1].item() for _ in range(batches)) / batches
    model.train()
    return loss


def report(step, model, splits, began):
    losses = "  ".join(f"{name} {mean_loss(model, tokens):.4f}" for name, tokens in splits.items())
    print(f"step {step:5d}  {losses}  {time.time() - began:.0f} s", flush=True)


def config_from(args, vocab_size):
    return GPTConfig(
        batch_size=args.batch_size,
        block_size=args.block_size,
        vocab_size=vocab_size,
        n_embd=args.n_embd,
        n_head=args.n_head,
        n_layer=args.n_layer,
        dropout=args.dropout,
        bias=args.bias,
    )


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", required=True, help="text to train on, UTF-8")
    parser.add_argument("--out", required=True, help="directory of the bundle")
    parser.add_argument("--resume", action="store_true", help="go on from the bundle in --out, with its own settings")
    parser.add_argument("--steps", type=int, default=2000, help="optimizer updates to make (default 2000)")
    parser.add_argument("--eval-interval", type=int, default=250, help="updates between evaluations (default 250)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of a new model (default 0.001)")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--block-size", type=int, default=64)
    parser.add_argument("--n-embd", type=int, default=64)
    parser.add_argument("--n-head", type=int, default=4)
    parser.add_argument("--n-layer", type=int, default=4)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--bias", action="store_true", help="biases in the query, key and value projections")
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
