"""Generates text from a bundle, whether Python or Node saved it.

    python generate.py ../checkpoints/shakespeare-char --prompt "KING RICHARD II:" --temperature 0.8
"""

import argparse

import torch

from bundle import load_bundle


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="directory of the bundle")
    parser.add_argument("--prompt", default="\n", help="text to go on from (default: a line break)")
    parser.add_argument("--tokens", type=int, default=300, help="characters to generate (default 300)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 always takes the likeliest (default 0.8)")
    parser.add_argument("--seed", type=int, default=1337)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    model, tokenizer, _, _ = load_bundle(args.bundle)
    model.eval()
    idx = torch.tensor([tokenizer.encode(args.prompt)])  # (1, T)
    print(tokenizer.decode(model.generate(idx, args.tokens, args.temperature)[0].tolist()))


if __name__ == "__main__":
    main()
