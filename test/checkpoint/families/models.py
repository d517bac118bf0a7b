"""Models of the families whose checkpoints torchbind opens, as small as they can be and keep the families' keys, order
of parameters, masks and arithmetic."""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Config:
    vocab_size: int = 19
    block_size: int = 8
    n_layer: int = 2
    n_head: int = 2
    n_embd: int = 8
    dropout: float = 0.0
    bias: bool = True


def causal(T):
    return torch.tril(torch.ones(T, T))


def attend(q, k, v, mask, scale):
    """(B, nh, T, hs) each, in plain arithmetic."""
    T = q.size(-2)
    scores = (q @ k.transpose(-2, -1) * scale).masked_fill(mask[:T, :T] == 0, float("-inf"))
    return scores.softmax(-1) @ v


def split_heads(x, n_head):
    B, T, C = x.shape
    return x.view(B, T, n_head, C // n_head).transpose(1, 2)


def join_heads(x):
    B, nh, T, hs = x.shape
    return x.transpose(1, 2).reshape(B, T, nh * hs)


class Norm(nn.Module):
    """A LayerNorm whose bias may be left out."""

    def __init__(self, size, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size)) if bias else None

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class Gpt2Attention(nn.Module):
    def __init__(self, config, mask_buffer):
        super().__init__()
        C = config.n_embd
        self.c_attn = nn.Linear(C, 3 * C, bias=config.bias)
        self.c_proj = nn.Linear(C, C, bias=config.bias)
        self.attn_dropout = nn.Dropout(config.dropout)
        self.resid_dropout = nn.Dropout(config.dropout)
        self.n_head = config.n_head
        if mask_buffer:
            self.register_buffer("bias", causal(config.block_size)[None, None])

    def forward(self, x):
        T, C = x.shape[1:]
        q, k, v = (split_heads(part, self.n_head) for part in self.c_attn(x).split(C, dim=2))
        y = join_heads(attend(q, k, v, causal(T), 1 / math.sqrt(k.size(-1))))
        return self.resid_dropout(self.c_proj(y))


class NanoMlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.gelu = nn.GELU()
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x):
        return self.dropout(self.c_proj(self.gelu(self.c_fc(x))))


class NewGelu(nn.Module):
    def forward(self, x):
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def mini_mlp(config):
    return nn.ModuleDict(
        {
            "c_fc": nn.Linear(config.n_embd, 4 * config.n_embd),
            "c_proj": nn.Linear(4 * config.n_embd, config.n_embd),
            "act": NewGelu(),
            "dropout": nn.Dropout(config.dropout),
        }
    )


class Gpt2Block(nn.Module):
    def __init__(self, config, mini, mask_buffer):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd) if mini else Norm(config.n_embd, config.bias)
        self.attn = Gpt2Attention(config, mask_buffer)
        self.ln_2 = nn.LayerNorm(config.n_embd) if mini else Norm(config.n_embd, config.bias)
        self.mlp = mini_mlp(config) if mini else NanoMlp(config)
        self.mini = mini

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        h = self.ln_2(x)
        if not self.mini:
            return x + self.mlp(h)
        m = self.mlp
        return x + m["dropout"](m["c_proj"](m["act"](m["c_fc"](h))))


class Gpt2Like(nn.Module):
    """nanoGPT, or with `mini` minGPT."""

    def __init__(self, config, mini=False, mask_buffer=False):
        super().__init__()
        self.config = config
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.vocab_size, config.n_embd),
                "wpe": nn.Embedding(config.block_size, config.n_embd),
                "drop": nn.Dropout(config.dropout),
                "h": nn.ModuleList([Gpt2Block(config, mini, mask_buffer) for _ in range(config.n_layer)]),
                "ln_f": nn.LayerNorm(config.n_embd) if mini else Norm(config.n_embd, config.bias),
            }
        )
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if not mini:
            self.transformer.wte.weight = self.lm_head.weight
        self.apply(init_normal)
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, 0.0, 0.02 / math.sqrt(2 * config.n_layer))

    def forward(self, idx, targets=None):
        t = self.transformer
        x = t["drop"](t["wte"](idx) + t["wpe"](torch.arange(idx.size(1))))
        for block in t["h"]:
            x = block(x)
        return with_loss(self.lm_head(t["ln_f"](x)), targets)


def with_loss(logits, targets):
    loss = None if targets is None else F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    return logits, loss


def init_normal(module):
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, 0.0, 0.02)


def nano_optimizer(model, lr=1e-3):
    params = dict(model.named_parameters())
    groups = [
        {"params": [p for p in params.values() if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in params.values() if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))


def trainer_optimizer(model, lr=1e-3):
    """As Hugging Face's Trainer divides the parameters, with its default of no weight decay."""
    named = list(model.named_parameters())
    plain = [p for n, p in named if n.endswith("bias") or "ln_" in n]
    decay = [p for _, p in named if not any(p is other for other in plain)]
    groups = [{"params": decay, "weight_decay": 0.0}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr)


def mini_optimizer(model, lr=1e-3):
    decay = set()
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear):
            decay.add(f"{path}.weight")
    params = dict(model.named_parameters())
    groups = [
        {"params": [params[name] for name in sorted(decay)], "weight_decay": 0.1},
        {"params": [params[name] for name in sorted(params.keys() - decay)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))


class LectureHead(nn.Module):
    def __init__(self, config, scale, bias):
        super().__init__()
        size = config.n_embd // config.n_head
        self.key = nn.Linear(config.n_embd, size, bias=bias)
        self.query = nn.Linear(config.n_embd, size, bias=bias)
        self.value = nn.Linear(config.n_embd, size, bias=bias)
        self.register_buffer("tril", causal(config.block_size))
        self.dropout = nn.Dropout(config.dropout)
        self.scale = scale

    def forward(self, x):
        return self.dropout(attend(self.query(x), self.key(x), self.value(x), self.tril, self.scale))


class LectureAttention(nn.Module):
    def __init__(self, config, scale, bias):
        super().__init__()
        self.heads = nn.ModuleList([LectureHead(config, scale, bias) for _ in range(config.n_head)])
        self.proj = nn.Linear(config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x):
        return self.dropout(self.proj(torch.cat([head(x) for head in self.heads], -1)))


class FeedForward(nn.Module):
    def __init__(self, config, activation):
        super().__init__()
        C = config.n_embd
        self.net = nn.Sequential(nn.Linear(C, 4 * C), activation, nn.Linear(4 * C, C), nn.Dropout(config.dropout))

    def forward(self, x):
        return self.net(x)


class LectureBlock(nn.Module):
    def __init__(self, config, scale, bias):
        super().__init__()
        self.sa = LectureAttention(config, scale, bias)
        self.ffwd = FeedForward(config, nn.ReLU())
        self.ln1 = nn.LayerNorm(config.n_embd)
        self.ln2 = nn.LayerNorm(config.n_embd)

    def forward(self, x):
        x = x + self.sa(self.ln1(x))
        return x + self.ffwd(self.ln2(x))


class Lecture(nn.Module):
    """ng-video-lecture; with `norm_in_blocks` the from_scratch model of build_llm_karpathy; MyPT's has biases on request."""

    def __init__(self, config, scale="head", norm_in_blocks=False, bias=False):
        super().__init__()
        self.config = config
        factor = (config.n_embd // config.n_head if scale == "head" else config.n_embd) ** -0.5
        self.token_embedding_table = nn.Embedding(config.vocab_size, config.n_embd)
        self.position_embedding_table = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.Sequential(*[LectureBlock(config, factor, bias) for _ in range(config.n_layer)])
        if norm_in_blocks:
            self.blocks.append(nn.LayerNorm(config.n_embd))
        else:
            self.ln_f = nn.LayerNorm(config.n_embd)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size)
        if not norm_in_blocks:
            self.apply(init_normal)

    def forward(self, idx, targets=None):
        x = self.token_embedding_table(idx) + self.position_embedding_table(torch.arange(idx.size(1)))
        x = self.blocks(x)
        return with_loss(self.lm_head(self.ln_f(x) if hasattr(self, "ln_f") else x), targets)


class RmsNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


def rotate(x, theta, scale):
    """Positions as angles between the halves of a head: x is (B, nh, T, hs)."""
    T, hs = x.shape[-2:]
    frequencies = 1.0 / (theta ** (torch.arange(0, hs, 2).float() / hs))
    angles = torch.outer(torch.arange(T).float() / scale, frequencies)
    a, b = x[..., : hs // 2], x[..., hs // 2 :]
    return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)


class FusedAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        C = config.n_embd
        self.qkv = nn.Linear(C, 3 * C, bias=config.bias)
        self.proj = nn.Linear(C, C, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)
        self.config = config

    def forward(self, x):
        c = self.config
        q, k, v = (split_heads(part, c.n_head) for part in self.qkv(x).split(c.n_embd, dim=-1))
        if c.pos_encoding == "rope":
            q, k = rotate(q, c.rope_theta, c.rope_scale), rotate(k, c.rope_theta, c.rope_scale)
        return self.dropout(self.proj(join_heads(attend(q, k, v, causal(x.size(1)), q.size(-1) ** -0.5))))


class SwiGlu(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden = (int(8 * config.n_embd / 3) + 63) // 64 * 64
        self.w_gate = nn.Linear(config.n_embd, hidden, bias=False)
        self.w_up = nn.Linear(config.n_embd, hidden, bias=False)
        self.w_down = nn.Linear(hidden, config.n_embd, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x):
        return self.dropout(self.w_down(F.silu(self.w_gate(x)) * self.w_up(x)))


class FusedBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        norm = RmsNorm if config.norm_type == "rmsnorm" else nn.LayerNorm
        self.sa = FusedAttention(config)
        self.fwd = SwiGlu(config) if config.mlp_type == "swiglu" else FeedForward(config, nn.GELU())
        self.ln1, self.ln2 = norm(config.n_embd), norm(config.n_embd)

    def forward(self, x):
        x = x + self.sa(self.ln1(x))
        return x + self.fwd(self.ln2(x))


@dataclass
class FusedConfig:
    batch_size: int = 4
    block_size: int = 8
    vocab_size: int = 19
    n_embd: int = 8
    n_head: int = 2
    n_layer: int = 2
    dropout: float = 0.0
    bias: bool = False
    use_checkpoint: bool = False
    device: str = "cpu"
    tie_weights: bool = False
    save_dtype: str | None = None
    pos_encoding: str = "learned"
    mlp_type: str = "gelu"
    norm_type: str = "layernorm"
    rope_theta: float = 10000.0
    rope_scale: float = 1.0


class Fused(nn.Module):
    """MyPT since the end of 2025."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.token_embedding_table = nn.Embedding(config.vocab_size, config.n_embd)
        if config.pos_encoding == "learned":
            self.position_embedding_table = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.ModuleList([FusedBlock(config) for _ in range(config.n_layer)])
        self.ln_f = (RmsNorm if config.norm_type == "rmsnorm" else nn.LayerNorm)(config.n_embd)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size)
        if config.tie_weights:
            self.lm_head.weight = self.token_embedding_table.weight
        self.apply(init_normal)
        for name, parameter in self.named_parameters():
            if name.endswith(("attn.proj.weight", "w_down.weight", "net.2.weight")):
                nn.init.normal_(parameter, 0.0, 0.02 / (2 * config.n_layer) ** 0.5)

    def forward(self, idx, targets=None):
        x = self.token_embedding_table(idx)
        if self.config.pos_encoding == "learned":
            x = x + self.position_embedding_table(torch.arange(idx.size(1)))
        for block in self.blocks:
            x = block(x)
        return with_loss(self.lm_head(self.ln_f(x)), targets)


def fused_optimizer(model, lr=1e-3):
    named = list(model.named_parameters())
    plain = [p for n, p in named if p.dim() < 2 or "embedding" in n or "ln" in n]
    decay = [p for _, p in named if not any(p is other for other in plain)]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))


class LoraLinear(nn.Module):
    """build_llm_karpathy's: the base computes without gradient, so that one goes back through the adapter alone."""

    def __init__(self, base, rank, alpha, transposed):
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        size_in, size_out = base.weight.shape if type(base).__name__ == "Conv1D" else base.weight.shape[::-1]
        a, b = torch.randn(size_in, rank) / 4, torch.randn(rank, size_out) / 4
        self.lora_A, self.lora_B = (nn.Parameter(t.T.contiguous() if transposed else t) for t in (a, b))
        self.dropout = nn.Identity()
        self.transposed = transposed
        self.scaling = alpha / rank

    def forward(self, x):
        with torch.no_grad():
            base = self.base_layer(x)
        a, b = (t.T if self.transposed else t for t in (self.lora_A, self.lora_B))
        return base + x @ a @ b * self.scaling


SCRATCH_LAYERS = {"key", "query", "value", "proj", "0", "2", "lm_head"}
GPT2_LAYERS = {"c_attn", "c_proj", "c_fc", "lm_head"}


def adapt_layers(module, names, *, rank, alpha, transposed=False):
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear) or type(child).__name__ == "Conv1D":
            if name in names:
                setattr(module, name, LoraLinear(child, rank, alpha, transposed))
        else:
            adapt_layers(child, names, rank=rank, alpha=alpha, transposed=transposed)
    return module
