import { checkArgument, checkOptions, TorchBindError } from '../errors';
import { checkpoint } from '../nn/checkpoint';
import { cacheDType, decoding } from '../nn/decoding';
import { Dropout } from '../nn/dropout';
import { Embedding } from '../nn/embedding';
import { linearCrossEntropy } from '../nn/functional/linear-cross-entropy';
import { LayerNorm } from '../nn/layer-norm';
import { type FactoryOptions, Linear } from '../nn/linear';
import { Module } from '../nn/module';
import { packWeights, type Quantization } from '../nn/quantized-linear';
import { ModuleList } from '../nn/module-list';
import { OnePlusRMSNorm, RMSNorm } from '../nn/rms-norm';
import type { IncompatibleKeys, StateEntry } from '../nn/state-dict';
import { noGrad } from '../tensor/autograd';
import { arange, full, tensor } from '../tensor/creation';
import { cat, crossEntropyLoss, gelu, relu, silu, tanh } from '../tensor/generated/functions';
import { tidy } from '../tensor/scope';
import { type Tensor, unwrap } from '../tensor/tensor';
import type { Tokenizer } from '../tokenizers/tokenizer';
import { attend } from './attend';
import { type Activation, completeConfig, type GPTConfig, type GPTOptions, isGated } from './config';
import { exclusively, release, settle } from './in-use';
import { initialise } from './initialise';
import { KVCache } from './kv-cache';
import { type CheckpointLayout, resolveLayout } from './layouts';
import type { LoraSpec } from './layouts/layout';
import { rotate, type Rotations, rotationsOf } from './rotary';
import { checkSize } from './size';
import { checkWeightDType, type WeightDType } from './precision';
import { checkLayout, stateEntriesOf, statePathsOf } from './layouts/state-dict';
import type { DeviceName } from '../tensor/schema-types';

/*
 * The whole network, from the parts to the model: norm, rotary positions, attention, MLP, block, GPT. `GPTConfig` in
 * config.ts says what varies between architectures.
 *
 * Shapes: B batch, T time, C channels (nEmbd), nh heads, nkv heads of keys and values, hs channels of a head, V vocabulary.
 */

/** Options of `new GPT` besides the architecture. */
export interface GPTModelOptions {
  tokenizer?: Tokenizer | null;
  /** The checkpoint family whose keys state dicts use: its name, or the result of `detectLayout`. Default `mypt`. */
  layout?: string | CheckpointLayout;
  /** Device of the parameters. Default `cpu`, whatever device the config names. */
  device?: DeviceName;
  /** Dtype of the parameters and of the computation: `float32` (default), `bfloat16` or `float16`. */
  dtype?: WeightDType;
  /**
   * false leaves the weights uninitialised and draws no random numbers, for weights that are loaded next. Default true.
   */
  init?: boolean;
}

/** Result of `forward`. */
export interface GPTOutput {
  /** Logits of the next token at each position, (B, T, V). */
  logits: Tensor;
  /** Mean cross-entropy with the targets in nats, shape (); absent without targets. */
  loss?: Tensor;
  /** nLayer + 1 tensors (B, T, C): the embeddings, the output of each block, and for the last the input of the head. */
  hiddenStates?: Tensor[];
  /** Attention weights of each block after the softmax, (B, nh, T, T). */
  attentions?: Tensor[];
}

/** Additional results of `forward`: transformers' `output_hidden_states` and `output_attentions`. */
export interface ForwardOptions {
  hiddenStates?: boolean;
  /** Attention is then computed without fused kernels. */
  attentions?: boolean;
}

/** What is kept of a forward pass. */
interface Recording {
  hiddenStates?: Tensor[] | undefined;
  attentions?: Tensor[] | undefined;
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

/** Where parameters are made, and in which dtype. */
type Place = Pick<FactoryOptions, 'device' | 'dtype'>;

function makeNorm(config: GPTConfig, place: Place, size = config.nEmbd): Norm {
  const { normType, normBias: bias, normEps: eps, normScale: elementwiseAffine, normPlusOne } = config;
  if (normType === 'layernorm') return new LayerNorm(size, { eps, bias, elementwiseAffine, ...place });
  return new (normPlusOne ? OnePlusRMSNorm : RMSNorm)(size, { eps, elementwiseAffine, ...place });
}

export class CausalSelfAttention extends Module {
  /** Queries, keys and values from one matrix; null where there are three. */
  readonly qkv: Linear | null;
  readonly q: Linear | null;
  readonly k: Linear | null;
  readonly v: Linear | null;
  readonly qNorm: Norm | null;
  readonly kNorm: Norm | null;
  readonly proj: Linear;
  readonly dropout: Dropout;
  private readonly scale: number;
  private readonly window: number | null;
  private readonly rotates: boolean;

  constructor(
    private readonly config: GPTConfig,
    private readonly layer: number,
    place: Place,
  ) {
    super();
    const { nEmbd, nHead, nKvHead, headSize, bias, projBias, dropout, fusedQkv, qkNorm } = config;
    const [query, key] = [nHead * headSize, nKvHead * headSize];
    const project = (size: number): Linear => new Linear(nEmbd, size, { bias, ...place, init: false });
    this.qkv = fusedQkv ? project(query + 2 * key) : null;
    this.q = fusedQkv ? null : project(query);
    this.k = fusedQkv ? null : project(key);
    this.v = fusedQkv ? null : project(key);
    this.qNorm = qkNorm === 'none' ? null : makeNorm(config, place, qkNorm === 'head' ? headSize : query);
    this.kNorm = qkNorm === 'none' ? null : makeNorm(config, place, qkNorm === 'head' ? headSize : key);
    this.proj = new Linear(query, nEmbd, { bias: projBias, ...place, init: false });
    this.dropout = new Dropout(dropout);
    this.scale = attentionScale(config, layer);
    this.window = isSliding(config, layer) ? config.slidingWindow : null;
    this.rotates = !config.noRopeLayers.includes(layer);
  }

  forward(
    x: Tensor,
    rotations: Rotations | undefined,
    segments?: readonly Segment[],
    onWeights?: (weights: Tensor) => void,
  ): Tensor {
    const { nHead, headSize } = this.config;
    const [B, T] = x.shape as [number, number]; // (B, T, C)
    const [query, key, v] = this.project(x); // (B, nh, T, hs), and (B, nkv, T, hs) twice
    const rotation = this.rotates ? rotations?.[this.window === null ? 'full' : 'sliding'] : undefined;
    const [q, k] =
      rotation === undefined
        ? [query, key]
        : [rotate(query, rotation, this.config), rotate(key, rotation, this.config)];
    const y = segments === undefined ? this.attend(q, k, v, 0, onWeights) : this.attendCached(q, k, v, segments);
    const joined = y.transpose(1, 2).reshape([B, T, nHead * headSize]); // (B, nh, T, hs) -> (B, T, nh hs)
    return this.dropout.forward(this.proj.forward(joined)); // (B, T, C)
  }

  /** Queries (B, nh, T, hs), keys and values (B, nkv, T, hs) of (B, T, C). */
  private project(x: Tensor): [Tensor, Tensor, Tensor] {
    const { nHead, nKvHead, headSize, qkvByHead, qkNorm } = this.config;
    const [B, T] = x.shape as [number, number];
    const heads = (part: Tensor, norm: Norm | null): Tensor => {
      if (norm !== null && qkNorm === 'all') part = norm.forward(part);
      const split = part.view([B, T, -1, headSize]); // (B, T, nh or nkv, hs)
      return (norm !== null && qkNorm === 'head' ? norm.forward(split) : split).transpose(1, 2);
    };
    if (this.qkv === null) {
      const { q, k, v } = this as { q: Linear; k: Linear; v: Linear };
      return [heads(q.forward(x), this.qNorm), heads(k.forward(x), this.kNorm), heads(v.forward(x), null)];
    }
    const fused = this.qkv.forward(x); // (B, T, (nh + 2 nkv) hs)
    if (nKvHead !== nHead || this.qNorm !== null) {
      const sizes = [nHead * headSize, nKvHead * headSize, nKvHead * headSize];
      const [q, k, v] = fused.split(sizes, -1) as [Tensor, Tensor, Tensor];
      return [heads(q, this.qNorm), heads(k, this.kNorm), heads(v, null)];
    }
    const parts = qkvByHead
      ? fused.view([B, T, nHead, 3, headSize]).permute([3, 0, 2, 1, 4])
      : fused.view([B, T, 3, nHead, headSize]).permute([2, 0, 3, 1, 4]); // (3, B, nh, T, hs)
    return parts.unbind(0) as [Tensor, Tensor, Tensor];
  }

  /** Attention of new positions, (B, nh or nkv, T, hs) each: those of each segment see those of its own sequence. */
  private attendCached(q: Tensor, k: Tensor, v: Tensor, segments: readonly Segment[]): Tensor {
    const attendTo = ({ cache }: Segment, query: Tensor, key: Tensor, value: Tensor): Tensor => {
      const [keys, values] = cache.append(this.layer, key, value);
      if (keys.dtype === query.dtype) return this.attend(query, keys, values, cache.length);
      return this.attend(query.to(keys.dtype), keys, values, cache.length).to(query.dtype);
    };
    if (segments.length === 1) return attendTo(segments[0]!, q, k, v);
    const counts = segments.map(({ count }) => count);
    const [queries, keys, values] = [q.split(counts, 2), k.split(counts, 2), v.split(counts, 2)];
    return cat(
      segments.map((segment, i) => attendTo(segment, queries[i]!, keys[i]!, values[i]!)), // (1, nh, count, hs) each
      2,
    );
  }

  private attend(q: Tensor, k: Tensor, v: Tensor, past: number, onWeights?: (weights: Tensor) => void): Tensor {
    const { window, scale, training } = this;
    const { attentionDropout, attentionSoftcap: softcap } = this.config;
    const dropoutP = training ? attentionDropout : 0;
    return attend(q, k, v, { past, window, scale, softcap, dropoutP, onWeights });
  }
}

/** Whether a layer sees a sliding window only. */
function isSliding({ slidingWindow, slidingLayers }: GPTConfig, layer: number): boolean {
  return slidingWindow !== null && (slidingLayers === null || slidingLayers.includes(layer));
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

/** Tokens of the longest sequence, those that its cache dropped included. */
function lengthOf(idx: Tensor, segments?: readonly Segment[]): number {
  if (segments === undefined) return idx.size(1);
  return Math.max(...segments.map(({ cache: { start, length }, count }) => start + length + count));
}

/** Integers as a tensor on the device of another. */
function int64(values: readonly number[], { device }: Tensor): Tensor {
  return tensor(values, { dtype: 'int64', device });
}

/** The factor of the attention scores. */
function attentionScale(config: GPTConfig, layer: number): number {
  const { attentionScale: kind, attentionMultiplier, nEmbd, headSize, scaleByLayer } = config;
  if (attentionMultiplier !== null) return attentionMultiplier;
  const channels = { head: headSize, embd: nEmbd, none: 1 }[kind];
  return 1 / Math.sqrt(channels) / (scaleByLayer ? layer + 1 : 1);
}

export class MLP extends Module {
  readonly gate: Linear | null;
  /** With `fusedGate`, the rows of the gate come first. */
  readonly up: Linear;
  readonly down: Linear;
  readonly dropout: Dropout;

  constructor(
    private readonly config: GPTConfig,
    place: Place,
  ) {
    super();
    const { nEmbd, mlpHidden, mlpBias: bias, activation, fusedGate } = config;
    const isFused = fusedGate && isGated(activation);
    this.gate = isGated(activation) && !isFused ? new Linear(nEmbd, mlpHidden, { bias, ...place, init: false }) : null;
    this.up = new Linear(nEmbd, isFused ? 2 * mlpHidden : mlpHidden, { bias, ...place, init: false });
    this.down = new Linear(mlpHidden, nEmbd, { bias, ...place, init: false });
    this.dropout = new Dropout(config.dropout);
  }

  forward(x: Tensor): Tensor {
    const { activation } = this.config;
    const hidden = this.up.forward(x); // (B, T, C) -> (B, T, mlpHidden)
    const [gate, up] =
      this.gate === null && isGated(activation) ? hidden.chunk(2, -1) : [this.gate?.forward(x), hidden];
    const active = gate === undefined ? activate(up!, activation) : activate(gate, activation).mul(up!);
    return this.dropout.forward(this.down.forward(active)); // (B, T, C)
  }
}

/** The activation; of a gated one, that of the gate. */
function activate(x: Tensor, activation: Activation): Tensor {
  switch (activation) {
    case 'relu':
      return relu(x);
    case 'relu2':
      return relu(x).square();
    case 'gelu':
    case 'geglu':
      return gelu(x);
    case 'gelu_tanh':
    case 'geglu_tanh':
      return gelu(x, { approximate: 'tanh' });
    case 'quick_gelu':
      return x.mul(x.mul(1.702).sigmoid());
    case 'silu':
    case 'swiglu':
      return silu(x);
    case 'tanh':
      return tanh(x);
  }
}

/** One layer of a GPT: attention and MLP, each with a residual connection. */
export class Block extends Module {
  readonly ln1: Norm;
  readonly attn: CausalSelfAttention;
  /** Null where attention and MLP share a norm. */
  readonly ln2: Norm | null;
  readonly mlp: MLP;
  /** Norms of what attention and MLP give, with `sandwich`; else null. */
  readonly ln1Post: Norm | null;
  readonly ln2Post: Norm | null;

  constructor(
    private readonly config: GPTConfig,
    layer: number,
    place: Place,
  ) {
    super();
    this.ln1 = makeNorm(config, place);
    this.attn = new CausalSelfAttention(config, layer, place);
    this.ln2 = config.parallelResidual === 'one-norm' ? null : makeNorm(config, place);
    this.mlp = new MLP(config, place);
    this.ln1Post = config.normPosition === 'sandwich' ? makeNorm(config, place) : null;
    this.ln2Post = config.normPosition === 'sandwich' ? makeNorm(config, place) : null;
  }

  /** (B, T, C) -> (B, T, C) */
  forward(
    x: Tensor,
    rotations: Rotations | undefined,
    segments?: readonly Segment[],
    onWeights?: (weights: Tensor) => void,
  ): Tensor {
    const { normPosition, parallelResidual, residualScale } = this.config;
    const { ln1, ln2 } = this;
    const attn = (input: Tensor): Tensor => this.attn.forward(input, rotations, segments, onWeights);
    const mlp = (input: Tensor): Tensor => this.mlp.forward(input);
    const scaled = (branch: Tensor): Tensor => (residualScale === 1 ? branch : branch.mul(residualScale));
    if (parallelResidual !== 'none') {
      const normed = ln1.forward(x);
      return x.add(scaled(attn(normed))).add(scaled(mlp(ln2 === null ? normed : ln2.forward(x))));
    }
    switch (normPosition) {
      case 'pre':
        x = x.add(scaled(attn(ln1.forward(x))));
        return x.add(scaled(mlp(ln2!.forward(x))));
      case 'post':
        x = ln1.forward(x.add(scaled(attn(x))));
        return ln2!.forward(x.add(scaled(mlp(x))));
      case 'output':
        x = x.add(scaled(ln1.forward(attn(x))));
        return x.add(scaled(ln2!.forward(mlp(x))));
      case 'sandwich':
        x = x.add(scaled(this.ln1Post!.forward(attn(ln1.forward(x)))));
        return x.add(scaled(this.ln2Post!.forward(mlp(ln2!.forward(x)))));
    }
  }
}

/**
 * A GPT: token and position embeddings, blocks of attention and MLP, a norm and a head.
 *
 * It computes with fused queries, keys and values. `stateDict()` and `loadStateDict()` use the keys of its layout, so
 * that files of that family's Python program load directly; `namedParameters()` uses torchbind's names. A state dict
 * has the weights at the time of the call: parts of a fused parameter are copies and do not follow later updates.
 */
export class GPTModel extends Module {
  /** Recompute the activations of blocks in the backward pass instead of keeping them. */
  activationCheckpointing = false;
  /** Compute the loss of training and evaluation in chunks of the positions, so that the logits are never all in memory at a time. */
  chunkedLoss = false;
  readonly config: GPTConfig;
  /** @internal What `generation_config.json` holds; `gpt.generationConfig` reads it. */
  generationJson: Readonly<Record<string, unknown>> | undefined;
  /** The tokenizer; null if the model works with token ids only. */
  tokenizer: Tokenizer | null;
  readonly tokenEmbedding: Embedding;
  /** Null with rotary positions (RoPE). */
  readonly positionEmbedding: Embedding | null;
  readonly dropout: Dropout;
  readonly blocks: ModuleList<Block>;
  readonly lnF: Norm;
  readonly lmHead: Linear;
  #layout: CheckpointLayout;

  /** @throws ERR_TORCHBIND_CONFIG, ERR_TORCHBIND_LAYOUT, ERR_TORCHBIND_UNKNOWN_OPTION */
  constructor(config: GPTOptions, options: GPTModelOptions = {}) {
    super();
    checkOptions(options, ['tokenizer', 'layout', 'device', 'dtype', 'init'], 'GPT');
    const { tokenizer = null, layout = 'mypt', device = 'cpu', dtype = 'float32', init = true } = options;
    checkWeightDType(dtype, 'GPT');
    const place = { device, dtype };
    this.#layout = resolveLayout(layout, 'GPT');
    this.config = completeConfig(config, this.layout.facts);
    if (init) checkSize(this.config, place); // memory that is not set takes none
    this.tokenizer = tokenizer;
    const { vocabSize, blockSize, nEmbd, nLayer, lmHeadBias, tieWeights, positionEncoding, positionOffset } =
      this.config;
    this.tokenEmbedding = new Embedding(vocabSize, nEmbd, {
      paddingIdx: this.config.paddingIdx,
      ...place,
      init: false,
    });
    const learned = positionEncoding === 'learned';
    this.positionEmbedding = learned
      ? new Embedding(blockSize + positionOffset, nEmbd, { ...place, init: false })
      : null;
    this.dropout = new Dropout(this.config.embeddingDropout);
    this.blocks = new ModuleList(Array.from({ length: nLayer }, (_, i) => new Block(this.config, i, place)));
    this.lnF = makeNorm(this.config, place);
    this.lmHead = new Linear(nEmbd, vocabSize, { bias: lmHeadBias, ...place, init: false });
    if (tieWeights) this.lmHead.weight = this.tokenEmbedding.weight;
    checkLayout(this);
    if (init) initialise(this, this.layout, this.config);
  }

  /**
   * Computes the logits of the next token at every position, and the loss if targets are given.
   *
   * @param idx token ids, int64 (B, T), T at most blockSize
   * @param targets ids of the next tokens, int64 (B, T); -100 is ignored
   * @param options `hiddenStates`, `attentions`: additional results
   * @throws ERR_TORCHBIND_CONTEXT_FULL if T exceeds blockSize
   */
  forward(idx: Tensor, targets?: Tensor | null, options: ForwardOptions = {}): GPTOutput {
    this.checkTokens(idx);
    checkOptions(options, ['hiddenStates', 'attentions'], 'GPT.forward');
    settle(this);
    const recording: Recording = {
      ...(options.hiddenStates === true ? { hiddenStates: [] } : {}),
      ...(options.attentions === true ? { attentions: [] } : {}),
    };
    const logits = this.logits(this.hidden(idx, undefined, recording)); // (B, T, C) -> (B, T, V)
    if (targets === undefined || targets === null) return { logits, ...recording } as GPTOutput;
    unwrap(targets, 'GPT: targets');
    const rows = logits.view([-1, this.config.vocabSize]); // (B, T, V) -> (B T, V)
    const loss = crossEntropyLoss(rows, targets.reshape([-1]));
    rows.dispose();
    return { logits, loss, ...recording } as GPTOutput;
  }

  /** @internal The loss that `forward` gives, (), without the logits where `chunkedLoss` says so. */
  loss(idx: Tensor, targets: Tensor): Tensor {
    const { lmHead } = this;
    const { logitScale, logitSoftcap } = this.config;
    const isPlain = logitScale === 1 && logitSoftcap === null;
    const isOwnHead = lmHead.constructor === Linear && lmHead.forward === Linear.prototype.forward;
    const isOwn = isOwnHead && this.forward === GPTModel.prototype.forward;
    if (!this.chunkedLoss || !isOwn || !isPlain) {
      const { logits, loss } = this.forward(idx, targets);
      // They take much memory, and the backward pass needs none of it. A program's own code may have kept them.
      if (isOwn) logits.dispose();
      return loss!;
    }
    this.checkTokens(idx);
    settle(this);
    unwrap(targets, 'GPT: targets');
    const x = this.hidden(idx).flatten(0, 1); // (B, T, C) -> (B T, C)
    const options = { linearBias: lmHead.bias, options: {} };
    return linearCrossEntropy(x, lmHead.weight, targets.reshape([-1]), options);
  }

  /** (..., C) -> (..., V) */
  private logits(x: Tensor): Tensor {
    const { logitScale, logitSoftcap } = this.config;
    const logits = this.lmHead.forward(x);
    const scaled = logitScale === 1 ? logits : logits.div(logitScale);
    return logitSoftcap === null ? scaled : scaled.div(logitSoftcap).tanh().mul(logitSoftcap);
  }

  /** What the head reads: token ids (B, T) -> (B, T, C). */
  private hidden(idx: Tensor, segments?: readonly Segment[], { hiddenStates, attentions }: Recording = {}): Tensor {
    const { embeddingScale, positionOffset } = this.config;
    const positions = segments === undefined ? arange(idx.size(1), { device: idx.device }) : positionsOf(segments, idx); // (T)
    let x = this.tokenEmbedding.forward(idx); // (B, T, C)
    if (embeddingScale !== 1) x = x.mul(full([], embeddingScale, { dtype: x.dtype, device: x.device })); // rounded to its dtype
    if (this.positionEmbedding !== null) {
      x = x.add(this.positionEmbedding.forward(positionOffset === 0 ? positions : positions.add(positionOffset))); // + (T, C)
    }
    x = this.dropout.forward(x);
    const rotations =
      this.positionEmbedding === null
        ? rotationsOf(positions, lengthOf(idx, segments), this.config, x.dtype)
        : undefined;
    const onWeights = attentions === undefined ? undefined : (weights: Tensor) => void attentions.push(weights);
    const recomputes = this.activationCheckpointing && segments === undefined && onWeights === undefined;
    for (const block of this.blocks) {
      hiddenStates?.push(x);
      const run = (input: Tensor): Tensor => block.forward(input, rotations, segments, onWeights);
      // Tensors that the block makes and no gradient needs are freed at once, in the forward pass and where it runs again.
      x = recomputes ? checkpoint((input) => tidy(() => run(input)), x) : run(x);
    }
    const last = this.lnF.forward(x);
    hiddenStates?.push(last);
    return last;
  }

  /**
   * Computes the logits of the token after the last one of `idx`, given all tokens in the cache, without autograd.
   *
   * @param idx the tokens after those in the cache, int64 (B, T): a whole prompt at first, then one at a time
   * @returns (B, V)
   * @throws ERR_TORCHBIND_CONTEXT_FULL if the cache lacks room for T more positions
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
        const logits = decoding(B, weight, () => this.logits(last)); // (B, V)
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
        const logits = decoding(ends.length, weight, () => this.logits(last)); // (S, V)
        for (const { cache, count } of segments) cache.advance(count);
        return logits;
      }),
    );
  }

  /** Makes an empty cache for `forwardCached`, for blockSize positions of `batchSize` sequences. */
  makeCache(batchSize = 1): KVCache {
    const { nLayer, nKvHead, headSize, blockSize } = this.config;
    const { weight } = this.tokenEmbedding;
    const dtype = cacheDType(weight);
    return new KVCache({ nLayer, batchSize, nHead: nKvHead, blockSize, headSize, dtype, device: weight.device });
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
        `Expected at most ${this.config.blockSize} tokens, the model's context (blockSize), got ${T}. Pass only the last ones.`,
        'ERR_TORCHBIND_CONTEXT_FULL',
      );
    }
    return [B, T];
  }

  /** Device of the parameters. */
  get device(): DeviceName {
    return this.tokenEmbedding.weight.device;
  }

  /** The layout of state dicts: the keys of the checkpoint family, and of LoRA adapters if the model has any. */
  get layout(): CheckpointLayout {
    return this.#layout;
  }

  /** The LoRA adapters from `applyLora` or the model's files; null without. */
  get lora(): LoraSpec | null {
    return this.#layout.adapters?.spec ?? null;
  }

  /** The quantization from `quantize` or the model's files; null without. */
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
