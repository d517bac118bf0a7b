import { checkArgument, checkOptions, TorchBindError } from '../errors';
import { checkpoint } from '../nn/checkpoint';
import { Dropout } from '../nn/dropout';
import { Embedding } from '../nn/embedding';
import { Linear } from '../nn/linear';
import { Module } from '../nn/module';
import { ModuleList } from '../nn/module-list';
import type { Parameter } from '../nn/parameter';
import type { StateEntry } from '../nn/state-dict';
import type { AdamW, AdamWOptions } from '../optim/adamw';
import type { Optimizer } from '../optim/optimizer';
import { noGrad } from '../tensor/autograd';
import { arange, full, ones } from '../tensor/creation';
import { crossEntropyLoss } from '../tensor/generated/functions';
import { tidy } from '../tensor/scope';
import { type Tensor, unwrap } from '../tensor/tensor';
import type { Tokenizer } from '../tokenizers/tokenizer';
import { Block, makeNorm } from './block';
import type { Norm } from './block';
import { completeConfig } from './config';
import type { GPTConfig, GPTOptions } from './config';
import { initialise } from './initialise';
import type { LoraSpec } from './lora';
import { KVCache } from './kv-cache';
import { rotationOf } from './rope';
import { layoutByName } from './layouts';
import { isParameter, isPart, keyOf, partOf } from './layouts/layout';
import type { Layout, LayoutBuffer } from './layouts/layout';
import {
  loadOptimizerStateDict,
  makeOptimizer,
  optimizerStateDict,
  parameterGroups,
  resumeOptimizer,
} from './optimizers';

/** What a GPT is made with beside its architecture. */
export interface GPTModelOptions {
  tokenizer?: Tokenizer | null;
  /** The family of checkpoints whose keys state dicts have: its name, or what `detectLayout` gave. Default `mypt`. */
  layout?: string | Layout;
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

/** Layouts that are no names come from this package's own readers. */
function isLayout(value: unknown): boolean {
  const { name, facts, modules } = (value ?? {}) as Partial<Record<keyof Layout, unknown>>;
  return typeof name === 'string' && typeof facts === 'function' && typeof modules === 'function';
}

/** Refuses a layout whose files have no place for a parameter, or need one that there is not. */
function checkLayout(model: GPTModel): void {
  const lines = new Set(
    model.layout
      .modules(model.config)
      .flatMap(({ tensors }) => tensors.filter(isParameter).map((line) => line.parameter)),
  );
  const own = model.namedParameters().map(([name]) => name);
  const homeless = own.filter((name) => !lines.has(name));
  const absent = [...lines].filter((name) => !own.includes(name));
  if (homeless.length + absent.length === 0) return;
  const list = (names: string[]): string => (names.length === 0 ? 'none' : names.slice(0, 4).join(', '));
  throw new TorchBindError(
    `The layout '${model.layout.name}' cannot hold a model of this config. Parameters without a key: ${list(homeless)}. ` +
      `Keys without a parameter: ${list(absent)}.`,
    'ERR_TORCHBIND_LAYOUT',
  );
}

/**
 * A GPT: token and position embeddings, blocks of attention and MLP, a norm and a head.
 *
 * It computes with fused queries, keys and values. `stateDict()` and `loadStateDict()` speak the keys of its layout, so
 * that the files of that family's Python program load as they are; `namedParameters()` gives the names here. A state dict
 * shows the weights as they are when it is made: parts of a fused parameter are copies, and do not follow later updates.
 */
export class GPTModel extends Module {
  /** Compute what the blocks need in the backward pass anew there, instead of keeping it. */
  activationCheckpointing = false;
  readonly config: GPTConfig;
  /** Turns text into token ids and back; null when the model is used with ids alone. */
  tokenizer: Tokenizer | null;
  readonly tokenEmbedding: Embedding;
  /** Null where positions are rotations (RoPE). */
  readonly positionEmbedding: Embedding | null;
  readonly dropout: Dropout;
  readonly blocks: ModuleList<Block>;
  readonly lnF: Norm;
  readonly lmHead: Linear;
  #layout: Layout;
  #lora: LoraSpec | null = null;

  /**
   * @throws ERR_TORCHBIND_CONFIG, ERR_TORCHBIND_LAYOUT and ERR_TORCHBIND_UNKNOWN_OPTION for what makes no model
   */
  constructor(config: GPTOptions, options: GPTModelOptions = {}) {
    super();
    checkOptions(options, ['tokenizer', 'layout', 'device', 'init'], 'GPT');
    const { tokenizer = null, layout = 'mypt', device = 'cpu', init = true } = options;
    checkArgument(typeof layout === 'string' || isLayout(layout), 'the name of a layout', layout, 'GPT');
    this.#layout = typeof layout === 'string' ? layoutByName(layout) : layout;
    this.config = completeConfig(config, this.layout.facts);
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

  /** How state dicts name the parameters: what the family of checkpoints has, with the adapters where there are any. */
  get layout(): Layout {
    return this.#layout;
  }

  /** The LoRA adapters that the model was given, by `applyLora` or in its files; null without. */
  get lora(): LoraSpec | null {
    return this.#lora;
  }

  /** @internal After layers were replaced by ones with adapters. */
  setAdapters(lora: LoraSpec | null, layout: Layout): void {
    this.#lora = lora;
    this.#layout = layout;
    checkLayout(this);
  }

  /** Where the parameters are. */
  get device(): string {
    return this.tokenEmbedding.weight.device;
  }

  /**
   * Logits of the next token at every position, and the loss when targets are given.
   *
   * @param idx token ids, int64 (B, T), T at most blockSize
   * @param targets the ids that follow, int64 (B, T); -100 counts for nothing
   */
  forward(idx: Tensor, targets?: Tensor): GPTOutput {
    const logits = this.lmHead.forward(this.hidden(idx)); // (B, T, V)
    if (targets === undefined) return { logits };
    unwrap(targets, 'GPT: targets');
    const loss = crossEntropyLoss(logits.view([-1, this.config.vocabSize]), targets.reshape([-1]));
    return { logits, loss };
  }

  /**
   * Logits of the token after the last one of `idx`, given all tokens that the cache has seen before, without autograd.
   *
   * @param idx the tokens that follow those in the cache, int64 (B, T): a whole prompt at first, then one at a time
   * @returns (B, V)
   * @throws ERR_TORCHBIND_CONTEXT_FULL when the cache has no room for T more positions
   */
  forwardCached(idx: Tensor, cache: KVCache): Tensor {
    return tidy(() =>
      noGrad(() => {
        const [B, T] = this.checkTokens(idx);
        checkArgument(cache instanceof KVCache, 'a KVCache', cache, 'forwardCached()');
        cache.check(B, T);
        const last = this.hidden(idx, cache).select(1, T - 1); // (B, C)
        const logits = this.lmHead.forward(last); // (B, V)
        cache.advance(T);
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

  /** What the head reads: (B, T, C) for token ids (B, T). */
  private hidden(idx: Tensor, cache?: KVCache): Tensor {
    const [, T] = this.checkTokens(idx);
    const past = cache?.length ?? 0;
    const positions = arange(past, past + T, { device: idx.device });
    let x = this.tokenEmbedding.forward(idx); // (B, T, C)
    if (this.positionEmbedding !== null) x = x.add(this.positionEmbedding.forward(positions));
    x = this.dropout.forward(x);
    const rotation = this.positionEmbedding === null ? rotationOf(positions, this.config, x.dtype) : undefined;
    for (const block of this.blocks) {
      const run = (input: Tensor): Tensor => block.forward(input, rotation, cache);
      x = this.activationCheckpointing && cache === undefined ? checkpoint(run, x) : run(x);
    }
    return this.lnF.forward(x);
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

  /** @internal The tensors of the layout's files. Parts of fused parameters are views of them. */
  override stateEntries(prefix: string): StateEntry[] {
    const parameters = new Map(this.namedParameters());
    const buffers = new Map<string, Tensor>();
    const firstKeys = new Map<string, string>();
    return this.layout.modules(this.config).flatMap((module) =>
      module.tensors.map((line): StateEntry => {
        const key = prefix === '' ? keyOf(module, line) : `${prefix}.${keyOf(module, line)}`;
        if (!isParameter(line)) return { key, tensor: this.buffer(line, buffers), constant: true };
        if (line.alias !== true) firstKeys.set(line.parameter, key);
        const tensor = partOf(parameters.get(line.parameter)!.detach(), line);
        return {
          key,
          tensor,
          part: isPart(line),
          aliasOf: line.alias === true ? firstKeys.get(line.parameter) : undefined,
        };
      }),
    );
  }

  /** The tensor of a buffer; equal ones are one tensor, so that a file holds it once. */
  private buffer({ buffer, shape, dtype = 'float32' }: LayoutBuffer, made: Map<string, Tensor>): Tensor {
    const { device } = this;
    const T = this.config.blockSize;
    const size = shape ?? (buffer === 'causal_mask' ? [T, T] : []);
    const id = `${buffer} ${size.join(' ')} ${dtype}`;
    const tensor =
      made.get(id) ??
      (buffer === 'causal_mask'
        ? ones([T, T], { device })
            .tril()
            .to(dtype)
            .view([...size])
        : full([...size], buffer, { device, dtype }));
    made.set(id, tensor);
    return tensor;
  }

  /** @internal */
  override statePaths(prefix: string): string[] {
    return this.layout.modules(this.config).map(({ path }) => [prefix, path].filter((part) => part !== '').join('.'));
  }

  /**
   * The state dict of an optimizer over this model's parameters, as the optimizer of the layout's Python program writes
   * it: Python's `load_state_dict` takes it. `param_names` tells which key each number stands for, but where the
   * optimizer came from a file without them.
   */
  optimizerStateDict(optimizer: Optimizer): Map<string, unknown> {
    return optimizerStateDict(this, optimizer);
  }

  /**
   * Loads what the optimizer of the layout's Python program wrote into an optimizer over this model's parameters. Its
   * groups must divide the parameters as the file's do.
   *
   * @throws ERR_TORCHBIND_OPTIMIZER_STATE, in the file's names, for what does not fit or cannot be carried over exactly
   */
  loadOptimizerStateDict(optimizer: Optimizer, stateDict: ReadonlyMap<string, unknown>): void {
    loadOptimizerStateDict(this, optimizer, stateDict);
  }

  /** @internal The parameters in the groups of an optimizer's state dict; all in one where there is none. */
  parameterGroups(stateDict: ReadonlyMap<string, unknown> | null): { params: Parameter[] }[] {
    return parameterGroups(this, stateDict);
  }

  /**
   * A new AdamW with the groups that the layout's Python program gives its optimizer.
   *
   * @param options what all groups have in common; the weight decay of the family's groups where it is left out
   */
  makeOptimizer(options: AdamWOptions = {}): AdamW {
    return makeOptimizer(this, options);
  }

  /**
   * An AdamW that goes on from what the optimizer of the layout's Python program wrote, with the groups that it had.
   *
   * @throws ERR_TORCHBIND_OPTIMIZER_STATE, in the file's names, for what does not fit or cannot be carried over exactly
   */
  resumeOptimizer(stateDict: ReadonlyMap<string, unknown>): AdamW {
    return resumeOptimizer(this, stateDict);
  }
}
