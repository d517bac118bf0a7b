import { Dropout } from '../nn/dropout';
import { LayerNorm } from '../nn/layer-norm';
import { Linear } from '../nn/linear';
import { Module } from '../nn/module';
import { RMSNorm } from '../nn/rms-norm';
import { ones } from '../tensor/creation';
import { gelu, relu, scaledDotProductAttention, silu } from '../tensor/generated/functions';
import type { Tensor } from '../tensor/tensor';
import type { GPTConfig } from './config';
import type { KVCache } from './kv-cache';
import { rotate } from './rope';
import type { Rotation } from './rope';

/* Shapes: B batch, T time, C channels, nh heads, hs channels of a head, V vocabulary. */

class CausalSelfAttention extends Module {
  readonly qkv: Linear;
  readonly proj: Linear;
  readonly dropout: Dropout;
  private readonly scale: number;

  constructor(
    private readonly config: GPTConfig,
    private readonly layer: number,
    device: string,
  ) {
    super();
    const { nEmbd, bias, projBias, dropout } = config;
    this.qkv = new Linear(nEmbd, 3 * nEmbd, { bias, device, init: false });
    this.proj = new Linear(nEmbd, nEmbd, { bias: projBias, device, init: false });
    this.dropout = new Dropout(dropout);
    this.scale = attentionScale(config, layer);
  }

  /** (B, T, C) to the same; `rotation` holds the cosines and sines (T, hs / 2) of the positions where RoPE is used. */
  forward(x: Tensor, rotation: Rotation | undefined, cache?: KVCache): Tensor {
    const { nHead, nEmbd } = this.config;
    const [B, T] = x.shape as [number, number];
    const heads = this.qkv
      .forward(x)
      .view([B, T, 3, nHead, nEmbd / nHead])
      .permute([2, 0, 3, 1, 4]); // (3, B, nh, T, hs)
    const [query, key, v] = heads.unbind(0) as [Tensor, Tensor, Tensor];
    const [q, k] = rotation === undefined ? [query, key] : [rotate(query, rotation), rotate(key, rotation)];
    const y =
      cache === undefined ? this.attend(q, k, v, 0) : this.attend(q, ...cache.append(this.layer, k, v), cache.length);
    return this.dropout.forward(this.proj.forward(y.transpose(1, 2).reshape([B, T, nEmbd])));
  }

  /** Queries (B, nh, T, hs) of the positions from `past` on, over the keys and values of all (B, nh, past + T, hs). */
  private attend(q: Tensor, k: Tensor, v: Tensor, past: number): Tensor {
    const T = q.size(2);
    const attnMask = past > 0 && T > 1 ? ones([T, past + T], { dtype: 'bool', device: q.device }).tril(past) : null;
    return scaledDotProductAttention(q, k, v, {
      attnMask,
      dropoutP: this.training ? this.config.attentionDropout : 0,
      isCausal: past === 0 && T > 1,
      scale: this.scale,
    });
  }
}

/** What scores are multiplied by. */
function attentionScale({ attentionScale: kind, nEmbd, nHead, scaleByLayer }: GPTConfig, layer: number): number {
  const channels = { head: nEmbd / nHead, embd: nEmbd, none: 1 }[kind];
  return 1 / Math.sqrt(channels) / (scaleByLayer ? layer + 1 : 1);
}

class MLP extends Module {
  readonly gate: Linear | null;
  readonly up: Linear;
  readonly down: Linear;
  readonly dropout: Dropout;

  constructor(
    private readonly config: GPTConfig,
    device: string,
  ) {
    super();
    const { nEmbd, mlpHidden, mlpBias: bias, activation } = config;
    this.gate = activation === 'swiglu' ? new Linear(nEmbd, mlpHidden, { bias, device, init: false }) : null;
    this.up = new Linear(nEmbd, mlpHidden, { bias, device, init: false });
    this.down = new Linear(mlpHidden, nEmbd, { bias, device, init: false });
    this.dropout = new Dropout(config.dropout);
  }

  forward(x: Tensor): Tensor {
    const hidden = this.up.forward(x);
    const active = this.gate === null ? this.activate(hidden) : silu(this.gate.forward(x)).mul(hidden);
    return this.dropout.forward(this.down.forward(active));
  }

  private activate(x: Tensor): Tensor {
    const { activation } = this.config;
    return activation === 'relu' ? relu(x) : gelu(x, { approximate: activation === 'gelu' ? 'none' : 'tanh' });
  }
}

export type Norm = LayerNorm | RMSNorm;

export function makeNorm({ nEmbd, normType, normBias: bias, normEps: eps }: GPTConfig, device: string): Norm {
  return normType === 'rmsnorm' ? new RMSNorm(nEmbd, { eps, device }) : new LayerNorm(nEmbd, { eps, bias, device });
}

/** One layer of a GPT: attention and MLP, each around a residual connection. */
export class Block extends Module {
  readonly ln1: Norm;
  readonly attn: CausalSelfAttention;
  readonly ln2: Norm;
  readonly mlp: MLP;

  constructor(
    private readonly config: GPTConfig,
    layer: number,
    device: string,
  ) {
    super();
    this.ln1 = makeNorm(config, device);
    this.attn = new CausalSelfAttention(config, layer, device);
    this.ln2 = makeNorm(config, device);
    this.mlp = new MLP(config, device);
  }

  forward(x: Tensor, rotation: Rotation | undefined, cache?: KVCache): Tensor {
    if (this.config.normPosition === 'post') {
      x = this.ln1.forward(x.add(this.attn.forward(x, rotation, cache)));
      return this.ln2.forward(x.add(this.mlp.forward(x)));
    }
    x = x.add(this.attn.forward(this.ln1.forward(x), rotation, cache));
    return x.add(this.mlp.forward(this.ln2.forward(x)));
  }
}
