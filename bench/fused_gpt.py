"""The example's GPT written for speed, as nanoGPT does it: one projection for q, k and v of all heads, and SDPA.

This is the stronger opponent of the two in the benchmark. `generate` keeps keys and values of earlier positions.
"""

import torch
import torch.nn as nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        C = config.n_embd
        self.n_head = config.n_head
        self.ln1, self.ln2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.qkv = nn.Linear(C, 3 * C, bias=config.bias)
        self.proj = nn.Linear(C, C)
        self.expand, self.contract = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

    def forward(self, x, cache=None, start=0):
        B, T, C = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(B, T, 3, self.n_head, -1).permute(2, 0, 3, 1, 4)  # (B, H, T, S) each
        if cache is not None:
            cache[0][:, :, start : start + T] = k
            cache[1][:, :, start : start + T] = v
            k, v = cache[0][:, :, : start + T], cache[1][:, :, : start + T]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)  # (B, H, T, S)
        x = x + self.proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.contract(F.relu(self.expand(self.ln2(x))))


class FusedGPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.positions = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size)

    def forward(self, idx, targets=None, caches=None, start=0):
        x = self.tokens(idx) + self.positions.weight[start : start + idx.shape[1]]  # (B, T, C)
        for i, block in enumerate(self.blocks):
            x = block(x, caches and caches[i], start)
        logits = self.lm_head(self.ln_f(x))  # (B, T, V)
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    @torch.inference_mode()
    def generate(self, idx, count):
        """Greedy; the prompt and the new tokens must fit the context."""
        c = self.config
        shape = (idx.shape[0], c.n_head, c.block_size, c.n_embd // c.n_head)
        caches = [(torch.empty(shape), torch.empty(shape)) for _ in self.blocks]
        out, fed, start = idx, idx, 0
        for _ in range(count):
            logits, _ = self(fed, caches=caches, start=start)
            start += fed.shape[1]
            fed = logits[:, -1].argmax(-1, keepdim=True)  # (B, 1)
            out = torch.cat((out, fed), dim=1)
        return out

    @torch.no_grad()
    def copy_weights(self, gpt):
        """Takes over the weights of the example's GPT, so that both compute the same function."""
        self.tokens.load_state_dict(gpt.token_embedding_table.state_dict())
        self.positions.load_state_dict(gpt.position_embedding_table.state_dict())
        for own, other in zip(self.blocks, gpt.blocks):
            heads = other.sa.heads
            for name, parameter in own.qkv.named_parameters():
                parts = [getattr(getattr(head, part), name) for part in ("query", "key", "value") for head in heads]
                parameter.copy_(torch.cat(parts))
            pairs = [(own.proj, other.sa.proj), (own.ln1, other.ln1), (own.ln2, other.ln2)]
            pairs += [(own.expand, other.fwd.net[0]), (own.contract, other.fwd.net[2])]
            for mine, theirs in pairs:
                mine.load_state_dict(theirs.state_dict())
        self.ln_f.load_state_dict(gpt.ln_f.state_dict())
        self.lm_head.load_state_dict(gpt.lm_head.state_dict())
        return self
