import { checkArgument, checkOptions, TorchBindError } from '../errors';
import { checkpoint } from '../nn/checkpoint';
import { decoding } from '../nn/decoding';
import { Dropout } from '../nn/dropout';
import { Embedding } from '../nn/embedding';
import { linearCrossEntropy } from '../nn/functional/linear-cross-entropy';
import { LayerNorm } from '../nn/layer-norm';
import { Linear } from '../nn/linear';
import { Module } from '../nn/module';
import { packWeights, type Quantization } from '../nn/quantized-linear';
import { ModuleList } from '../nn/module-list';
import { RMSNorm } from '../nn/rms-norm';
import type { IncompatibleKeys, StateEntry } from '../nn/state-dict';
import { noGrad } from '../tensor/autograd';
import { arange, ones, tensor } from '../tensor/creation';
import type { DType } from '../tensor/dtype';
import { cat, crossEntropyLoss, gelu, pow, relu, scaledDotProductAttention, silu } from '../tensor/generated/functions';
import { tidy } from '../tensor/scope';
import { type Tensor, unwrap } from '../tensor/tensor';
import type { Tokenizer } from '../tokenizers/tokenizer';
import { completeConfig, type GPTConfig, type GPTOptions } from './config';
import { exclusively, release, settle } from './in-use';
import { initialise } from './initialise';
import { KVCache } from './kv-cache';
import { type CheckpointLayout, resolveLayout } from './layouts';
import type { LoraSpec } from './layouts/layout';
import { checkSize } from './size';
import { checkLayout, stateEntriesOf, statePathsOf } from './layouts/state-dict';

/*
 * The whole network, from the parts to the model: norm, rotary positions, attention, MLP, block, GPT. `GPTConfig` in
 * config.ts says what varies between architectures.
 *
 * Shapes: B batch, T time, C channels (nEmbd), nh heads, hs channels of a head (C / nh), V vocabulary.
 */

/** What a GPT is made with beside its architecture. */
export interface GPTModelOptions {
  tokenizer?: Tokenizer | null;
  /** The family of checkpoints whose keys state dicts have: its name, or what `detectLayout` gave. Default `mypt`. */
  layout?: string | CheckpointLayout;
  /** Where the parameters are made. Default `cpu`, whatever device the config names. */
  device?: string;
  /** False leaves the weights unset, and draws nothing from the generator: for weights that are loaded next. Default true. */
  init?: boolean;
}

/** What `forward` gives. */
export interface GPTOutput {
  /** (B, T, V): for each position, of the token after it. */
  logits: Tensor;
  /** Mean cross-entropy with the targets, (); absent without targets. */
  loss?: Tensor;
}

/**
 * Tokens that follow those of a cache. Several sequences are computed in one pass by packing: a batch of one row, with the
 * tokens of each sequence after those of the one before. T is then the tokens of all, and only attention and positions
 * know the segments.
 */
export interface Segment {
  readonly cache: KVCache;
  /** Tokens of this sequence. */
  readonly count: number;
}

type Norm = LayerNorm | RMSNorm;

function makeNorm({ nEmbd, normType, normBias: bias, normEps: eps }: GPTConfig, device: string): Norm {
  return normType === 'rmsnorm' ? new RMSNorm(nEmbd, { eps, device }) : new LayerNorm(nEmbd, { eps, bias, device });
}

/** Cosines and sines of the angles by which RoPE rotates each position, (T, hs / 2) each. */
type Rotation = readonly [cos: Tensor, sin: Tensor];

/** The rotation of each of the positions (T). */
function rotationOf(positions: Tensor, { nEmbd, nHead, ropeTheta, ropeScale }: GPTConfig, dtype: DType): Rotation {
  const headSize = nEmbd / nHead;
  const exponents = arange(0, headSize, 2, { device: positions.device }).to('float32').div(headSize); // (hs / 2)
  const frequencies = pow(ropeTheta, exponents).reciprocal(); // (hs / 2)
  // In float32 whatever the model computes in: half precision does not tell neighbouring positions apart.
  const angles = positions.to('float32').div(ropeScale).outer(frequencies); // (T, hs / 2)
  return [angles.cos().to(dtype), angles.sin().to(dtype)];
}

/**
 * Rotary position embeddings (RoPE; Su et al. 2021) of queries or keys (B, nh, T, hs). As in LLaMA, channel i is paired
 * with channel i + hs / 2, not with its neighbour.
 */
function rotate(x: Tensor, [cos, sin]: Rotation): Tensor {
  const [a, b] = x.chunk(2, -1) as [Tensor, Tensor]; // (B, nh, T, hs / 2) each
  return cat([a.mul(cos).sub(b.mul(sin)), b.mul(cos).add(a.mul(sin))], -1); // (B, nh, T, hs)
}

export class CausalSelfAttention extends Module {
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

  forward(x: Tensor, rotation: Rotation | undefined, segments?: readonly Segment[]): Tensor {
    const { nHead, nEmbd } = this.config;
    const [B, T] = x.shape as [number, number]; // (B, T, C)
    const heads = this.qkv
      .forward(x) // (B, T, 3 C)
      .view([B, T, 3, nHead, nEmbd / nHead])
      .permute([2, 0, 3, 1, 4]); // (3, B, nh, T, hs)
    const [query, key, v] = heads.unbind(0) as [Tensor, Tensor, Tensor]; // (B, nh, T, hs) each
    const [q, k] = rotation === undefined ? [query, key] : [rotate(query, rotation), rotate(key, rotation)];
    const y = segments === undefined ? this.attend(q, k, v, 0) : this.attendCached(q, k, v, segments);
    const joined = y.transpose(1, 2).reshape([B, T, nEmbd]); // (B, nh, T, hs) -> (B, T, C)
    return this.dropout.forward(this.proj.forward(joined));
  }

  /** Attention of new positions, (B, nh, T, hs) each: those of each segment see those of its own sequence. */
  private attendCached(q: Tensor, k: Tensor, v: Tensor, segments: readonly Segment[]): Tensor {
    const attend = ({ cache }: Segment, query: Tensor, key: Tensor, value: Tensor): Tensor =>
      this.attend(query, ...cache.append(this.layer, key, value), cache.length);
    if (segments.length === 1) return attend(segments[0]!, q, k, v);
    const counts = segments.map(({ count }) => count);
    const [queries, keys, values] = [q.split(counts, 2), k.split(counts, 2), v.split(counts, 2)];
    return cat(
      segments.map((segment, i) => attend(segment, queries[i]!, keys[i]!, values[i]!)), // (1, nh, count, hs) each
      2,
    );
  }

  /**
   * Attention of the queries (B, nh, T, hs), whose first position is number `past`, over all keys and values so far,
   * (B, nh, past + T, hs) each: (B, nh, T, hs).
   */
  private attend(q: Tensor, k: Tensor, v: Tensor, past: number): Tensor {
    const T = q.size(2);
    // `isCausal` aligns its mask to the first key: right without a past only. A single query sees every key.
    const attnMask = past > 0 && T > 1 ? ones([T, past + T], { dtype: 'bool', device: q.device }).tril(past) : null;
    return scaledDotProductAttention(q, k, v, {
      attnMask,
      dropoutP: this.training ? this.config.attentionDropout : 0,
      isCausal: past === 0 && T > 1,
      scale: this.scale,
    });
  }
}

/** Positions of the tokens of the segments, each counted from the beginning of its own sequence: (T). */
function positionsOf(segments: readonly Segment[], idx: Tensor): Tensor {
  const ranges = segments.map(
    ({ cache: { start, length }, count }) => [start + length, start + length + count] as const,
  );
  if (ranges.length === 1) return arange(...ranges[0]!, { device: idx.device });
  return int64(
    ranges.flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i)),
    idx,
  );
}

/** Integers as a tensor on the device of another. */
function int64(values: readonly number[], { device }: Tensor): Tensor {
  return tensor(values, { dtype: 'int64', device });
}

/** The factor of the attention scores. */
function attentionScale({ attentionScale: kind, nEmbd, nHead, scaleByLayer }: GPTConfig, layer: number): number {
  const channels = { head: nEmbd / nHead, embd: nEmbd, none: 1 }[kind];
  return 1 / Math.sqrt(channels) / (scaleByLayer ? layer + 1 : 1);
}

export class MLP extends Module {
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
    const hidden = this.up.forward(x); // (B, T, C) -> (B, T, mlpHidden)
    const active = this.gate === null ? this.activate(hidden) : silu(this.gate.forward(x)).mul(hidden);
    return this.dropout.forward(this.down.forward(active)); // (B, T, C)
  }

  private activate(x: Tensor): Tensor {
    const { activation } = this.config;
    return activation === 'relu' ? relu(x) : gelu(x, { approximate: activation === 'gelu' ? 'none' : 'tanh' });
  }
}

/** One layer of a GPT: attention and MLP, each with a residual connection. */
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

  /** (B, T, C) -> (B, T, C) */
  forward(x: Tensor, rotation: Rotation | undefined, segments?: readonly Segment[]): Tensor {
    if (this.config.normPosition === 'post') {
      x = this.ln1.forward(x.add(this.attn.forward(x, rotation, segments)));
      return this.ln2.forward(x.add(this.mlp.forward(x)));
    }
    x = x.add(this.attn.forward(this.ln1.forward(x), rotation, segments));
    return x.add(this.mlp.forward(this.ln2.forward(x)));
  }
}

/**
 * A GPT: token and position embeddings, blocks of attention and MLP, a norm and a head.
 *
 * It computes with fused queries, keys and values. `stateDict()` and `loadStateDict()` use the keys of its layout, so
 * that the files of that family's Python program load as they are; `namedParameters()` gives the names here. A state dict
 * shows the weights as they are when it is made: parts of a fused parameter are copies, and do not follow later updates.
 */
export class GPTModel extends Module {
  /** Recompute the activations of blocks in the backward pass instead of keeping them. */
  activationCheckpointing = false;
  /** Compute the loss of training and evaluation in chunks of the positions, so that the logits are never all in memory at a time. */
  chunkedLoss = false;
  readonly config: GPTConfig;
  /** Turns text into token ids and back; null when the model is used with ids alone. */
  tokenizer: Tokenizer | null;
  readonly tokenEmbedding: Embedding;
  /** Null with rotary positions (RoPE). */
  readonly positionEmbedding: Embedding | null;
  readonly dropout: Dropout;
  readonly blocks: ModuleList<Block>;
  readonly lnF: Norm;
  readonly lmHead: Linear;
  #layout: CheckpointLayout;

  /**
   * @throws ERR_TORCHBIND_CONFIG, ERR_TORCHBIND_LAYOUT and ERR_TORCHBIND_UNKNOWN_OPTION for what makes no model
   */
  constructor(config: GPTOptions, options: GPTModelOptions = {}) {
    super();
    checkOptions(options, ['tokenizer', 'layout', 'device', 'init'], 'GPT');
    const { tokenizer = null, layout = 'mypt', device = 'cpu', init = true } = options;
    this.#layout = resolveLayout(layout, 'GPT');
    this.config = completeConfig(config, this.layout.facts);
    checkSize(this.config, device);
    this.tokenizer = tokenizer;
    const { vocabSize, blockSize, nEmbd, nLayer, lmHeadBias, tieWeights, positionEncoding } = this.config;
    this.tokenEmbedding = new Embedding(vocabSize, nEmbd, { device, init: false });
    const learned = positionEncoding === 'learned';
    this.positionEmbedding = learned ? new Embedding(blockSize, nEmbd, { device, init: false }) : null;
    this.dropout = new Dropout(this.config.embeddingDropout);
    this.blocks = new ModuleList(Array.from({ length: nLayer }, (_, i) => new Block(this.config, i, device)));
    this.lnF = makeNorm(this.config, device);
    this.lmHead = new Linear(nEmbd, vocabSize, { bias: lmHeadBias, device, init: false });
    if (tieWeights) this.lmHead.weight = this.tokenEmbedding.weight;
    checkLayout(this);
    if (init) initialise(this, this.layout, this.config);
  }

  /**
   * Logits of the next token at every position, and the loss when targets are given.
   *
   * @param idx token ids, int64 (B, T), T at most blockSize
   * @param targets the ids that follow, int64 (B, T); -100 counts for nothing
   */
  forward(idx: Tensor, targets?: Tensor): GPTOutput {
    this.checkTokens(idx);
    settle(this);
    const logits = this.lmHead.forward(this.hidden(idx)); // (B, T, C) -> (B, T, V)
    if (targets === undefined) return { logits };
    unwrap(targets, 'GPT: targets');
    const loss = crossEntropyLoss(logits.view([-1, this.config.vocabSize]), targets.reshape([-1])); // (B T, V), (B T)
    return { logits, loss };
  }

  /** @internal The loss that `forward` gives, (), without the logits where `chunkedLoss` says so. */
  loss(idx: Tensor, targets: Tensor): Tensor {
    const { lmHead } = this;
    const isOwn = this.forward === GPTModel.prototype.forward && lmHead.constructor === Linear;
    if (!this.chunkedLoss || !isOwn) return this.forward(idx, targets).loss!;
    this.checkTokens(idx);
    settle(this);
    unwrap(targets, 'GPT: targets');
    const x = this.hidden(idx).flatten(0, 1); // (B, T, C) -> (B T, C)
    const options = { linearBias: lmHead.bias, options: {} };
    return linearCrossEntropy(x, lmHead.weight, targets.reshape([-1]), options);
  }

  /** What the head reads: token ids (B, T) -> (B, T, C). */
  private hidden(idx: Tensor, segments?: readonly Segment[]): Tensor {
    const positions = segments === undefined ? arange(idx.size(1), { device: idx.device }) : positionsOf(segments, idx); // (T)
    let x = this.tokenEmbedding.forward(idx); // (B, T, C)
    if (this.positionEmbedding !== null) x = x.add(this.positionEmbedding.forward(positions)); // + (T, C)
    x = this.dropout.forward(x);
    const rotation = this.positionEmbedding === null ? rotationOf(positions, this.config, x.dtype) : undefined;
    for (const block of this.blocks) {
      const run = (input: Tensor): Tensor => block.forward(input, rotation, segments);
      x = this.activationCheckpointing && segments === undefined ? checkpoint(run, x) : run(x);
    }
    return this.lnF.forward(x);
  }

  /**
   * Logits of the token after the last one of `idx`, given all tokens that the cache has seen before, without autograd.
   *
   * @param idx the tokens that follow those in the cache, int64 (B, T): a whole prompt at first, then one at a time
   * @returns (B, V)
   * @throws ERR_TORCHBIND_CONTEXT_FULL when the cache has no room for T more positions
   */
  forwardCached(idx: Tensor, cache: KVCache): Tensor {
    settle(this);
    return tidy(() =>
      noGrad(() => {
        const [B, T] = this.checkTokens(idx);
        checkArgument(cache instanceof KVCache, 'a KVCache', cache, 'forwardCached()');
        cache.reserve(B, T);
        const weight = this.tokenEmbedding.weight;
        const hidden = decoding(B * T, weight, () => this.hidden(idx, [{ cache, count: T }])); // (B, T, C)
        // The head's product is the largest of a step, and only the last position's logits are needed.
        const last = hidden.select(1, T - 1); // (B, C)
        const logits = decoding(B, weight, () => this.lmHead.forward(last)); // (B, V)
        cache.advance(T);
        return logits;
      }),
    );
  }

  /**
   * @internal As `forwardCached`, for several sequences in one pass.
   *
   * @param idx the tokens of the segments, packed, int64 (1, T)
   * @returns (S, V): the logits after the last token of each segment
   */
  forwardPacked(idx: Tensor, segments: readonly Segment[]): Tensor {
    return tidy(() =>
      noGrad(() => {
        for (const { cache, count } of segments) cache.reserve(1, count);
        let end = 0;
        const ends = segments.map(({ count }) => (end += count) - 1);
        const weight = this.tokenEmbedding.weight;
        const hidden = decoding(end, weight, () => this.hidden(idx, segments)).select(0, 0); // (T, C)
        const last = hidden.indexSelect(0, int64(ends, idx)); // (S, C)
        const logits = decoding(ends.length, weight, () => this.lmHead.forward(last)); // (S, V)
        for (const { cache, count } of segments) cache.advance(count);
        return logits;
      }),
    );
  }

  /** An empty cache for `forwardCached`, with room for blockSize positions of `batchSize` sequences. */
  makeCache(batchSize = 1): KVCache {
    const { nLayer, nHead, nEmbd, blockSize } = this.config;
    const { dtype, device } = this.tokenEmbedding.weight;
    return new KVCache({ nLayer, batchSize, nHead, blockSize, headSize: nEmbd / nHead, dtype, device });
  }

  private checkTokens(idx: Tensor): [number, number] {
    unwrap(idx, 'GPT: token ids');
    const shape = idx.shape;
    const [B, T] = shape;
    if (shape.length !== 2 || B === undefined || T === undefined || T < 1) {
      throw new TorchBindError(
        `Token ids should have shape (batch, time) with 1 or more tokens, but have [${shape.join(', ')}].`,
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
    if (T > this.config.blockSize) {
      throw new TorchBindError(
        `${T} tokens came, but the model's context (blockSize) is ${this.config.blockSize}. Pass the last ones only.`,
        'ERR_TORCHBIND_CONTEXT_FULL',
      );
    }
    return [B, T];
  }

  /** Where the parameters are. */
  get device(): string {
    return this.tokenEmbedding.weight.device;
  }

  /** How state dicts name the parameters: the keys of the family of checkpoints, and of LoRA adapters if there are any. */
  get layout(): CheckpointLayout {
    return this.#layout;
  }

  /** The LoRA adapters that the model was given, by `applyLora` or in its files; null without. */
  get lora(): LoraSpec | null {
    return this.#layout.adapters?.spec ?? null;
  }

  /** How the Linears' weights are rounded to integers, by `quantize` or in the files; null where they are not. */
  get quantization(): Quantization | null {
    return this.#layout.quantized?.spec ?? null;
  }

  /** @internal After layers were replaced by ones with adapters, or by ones without. */
  setLayout(layout: CheckpointLayout): void {
    this.#layout = layout;
    checkLayout(this);
  }

  override loadStateDict(state: ReadonlyMap<string, unknown>, options: { strict?: boolean } = {}): IncompatibleKeys {
    const keys = exclusively(this, () => super.loadStateDict(state, options));
    packWeights(this);
    return keys;
  }

  override async adoptStateDict(state: ReadonlyMap<string, unknown>): Promise<void> {
    await super.adoptStateDict(state);
    packWeights(this);
  }

  override dispose(): void {
    release(this);
    super.dispose();
  }

  /** @internal The tensors of the layout's files. Parts of fused parameters are views of them. */
  override stateEntries(prefix: string): StateEntry[] {
    settle(this);
    return stateEntriesOf(this, prefix);
  }

  /** @internal */
  override statePaths(prefix: string): string[] {
    return statePathsOf(this, prefix);
  }
}
