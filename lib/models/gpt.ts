import { checkOptions, TorchBindError } from '../errors';
import { Dropout } from '../nn/dropout';
import { Embedding } from '../nn/embedding';
import { LayerNorm } from '../nn/layer-norm';
import { Linear } from '../nn/linear';
import { Module } from '../nn/module';
import { ModuleList } from '../nn/module-list';
import type { Parameter } from '../nn/parameter';
import type { StateEntry } from '../nn/state-dict';
import type { Optimizer } from '../optim/optimizer';
import { noGrad } from '../tensor/autograd';
import { arange, ones } from '../tensor/creation';
import { crossEntropyLoss, gelu, relu, scaledDotProductAttention } from '../tensor/generated/functions';
import { tidy } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import type { Tokenizer } from '../tokenizers/tokenizer';
import { completeConfig } from './config';
import type { GPTConfig, GPTOptions } from './config';
import { initialise } from './initialise';
import { KVCache } from './kv-cache';
import { layoutByName } from './layouts';
import { isParameter, keyOf, layoutParameters, partOf } from './layouts/layout';
import type { Layout } from './layouts/layout';
import { groupsInFile } from './layouts/optimizer-groups';
import { optimizerFromFile, optimizerToFile } from './layouts/optimizer-state';
import type { GroupNames } from './layouts/optimizer-state';

/** What a GPT is made with beside its architecture. */
export interface GPTModelOptions {
  tokenizer?: Tokenizer | null;
  /** Name of the family of checkpoints whose keys state dicts have. Default `mypt`. */
  layout?: string;
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

/** Shapes: B batch, T time, C channels, nh heads, hs channels of a head, V vocabulary. */

class CausalSelfAttention extends Module {
  readonly qkv: Linear;
  readonly proj: Linear;
  readonly dropout: Dropout;
  private readonly scale: number;

  constructor(
    private readonly config: GPTConfig,
    device: string,
  ) {
    super();
    const { nEmbd, nHead, bias, projBias, dropout, attentionScale } = config;
    this.qkv = new Linear(nEmbd, 3 * nEmbd, { bias, device, init: false });
    this.proj = new Linear(nEmbd, nEmbd, { bias: projBias, device, init: false });
    this.dropout = new Dropout(dropout);
    this.scale = 1 / Math.sqrt(attentionScale === 'head' ? nEmbd / nHead : nEmbd);
  }

  forward(x: Tensor, cache?: KVCache, layer = 0): Tensor {
    const { nHead, nEmbd } = this.config;
    const [B, T] = x.shape as [number, number];
    const heads = this.qkv
      .forward(x)
      .view([B, T, 3, nHead, nEmbd / nHead])
      .permute([2, 0, 3, 1, 4]); // (3, B, nh, T, hs)
    const [q, k, v] = heads.unbind(0) as [Tensor, Tensor, Tensor];
    const y =
      cache === undefined ? this.attend(q, k, v, 0) : this.attend(q, ...cache.append(layer, k, v), cache.length);
    return this.dropout.forward(this.proj.forward(y.transpose(1, 2).reshape([B, T, nEmbd])));
  }

  /** Queries (B, nh, T, hs) of the positions from `past` on, over the keys and values of all (B, nh, past + T, hs). */
  private attend(q: Tensor, k: Tensor, v: Tensor, past: number): Tensor {
    const T = q.size(2);
    const attnMask = past > 0 && T > 1 ? ones([T, past + T], { dtype: 'bool', device: q.device }).tril(past) : null;
    return scaledDotProductAttention(q, k, v, {
      attnMask,
      dropoutP: this.training ? this.config.dropout : 0,
      isCausal: past === 0 && T > 1,
      scale: this.scale,
    });
  }
}

class MLP extends Module {
  readonly up: Linear;
  readonly down: Linear;
  readonly dropout: Dropout;

  constructor(
    private readonly config: GPTConfig,
    device: string,
  ) {
    super();
    const { nEmbd, mlpBias: bias } = config;
    this.up = new Linear(nEmbd, 4 * nEmbd, { bias, device, init: false });
    this.down = new Linear(4 * nEmbd, nEmbd, { bias, device, init: false });
    this.dropout = new Dropout(config.dropout);
  }

  forward(x: Tensor): Tensor {
    return this.dropout.forward(this.down.forward(this.activate(this.up.forward(x))));
  }

  private activate(x: Tensor): Tensor {
    const { activation } = this.config;
    return activation === 'relu' ? relu(x) : gelu(x, { approximate: activation === 'gelu' ? 'none' : 'tanh' });
  }
}

class Block extends Module {
  readonly ln1: LayerNorm;
  readonly attn: CausalSelfAttention;
  readonly ln2: LayerNorm;
  readonly mlp: MLP;

  constructor(
    private readonly config: GPTConfig,
    device: string,
  ) {
    super();
    const { nEmbd, normBias: bias } = config;
    this.ln1 = new LayerNorm(nEmbd, { bias, device });
    this.attn = new CausalSelfAttention(config, device);
    this.ln2 = new LayerNorm(nEmbd, { bias, device });
    this.mlp = new MLP(config, device);
  }

  forward(x: Tensor, cache?: KVCache, layer?: number): Tensor {
    if (this.config.normPosition === 'post') {
      x = this.ln1.forward(x.add(this.attn.forward(x, cache, layer)));
      return this.ln2.forward(x.add(this.mlp.forward(x)));
    }
    x = x.add(this.attn.forward(this.ln1.forward(x), cache, layer));
    return x.add(this.mlp.forward(this.ln2.forward(x)));
  }
}

/**
 * A GPT: token and position embeddings, blocks of attention and MLP, a norm and a head.
 *
 * It computes with fused queries, keys and values. `stateDict()` and `loadStateDict()` speak the keys of its layout, so
 * that the files of that family's Python program load as they are; `namedParameters()` gives the names here. A state dict
 * shows the weights as they are when it is made: parts of a fused parameter are copies, and do not follow later updates.
 */
export class GPTModel extends Module {
  readonly config: GPTConfig;
  readonly layout: Layout;
  /** Turns text into token ids and back; null when the model is used with ids alone. */
  tokenizer: Tokenizer | null;
  readonly tokenEmbedding: Embedding;
  readonly positionEmbedding: Embedding;
  readonly blocks: ModuleList<Block>;
  readonly lnF: LayerNorm;
  readonly lmHead: Linear;

  /**
   * @throws ERR_TORCHBIND_CONFIG, ERR_TORCHBIND_LAYOUT and ERR_TORCHBIND_UNKNOWN_OPTION for what makes no model
   */
  constructor(config: GPTOptions, options: GPTModelOptions = {}) {
    super();
    checkOptions(options, ['tokenizer', 'layout', 'device', 'init'], 'GPT');
    const { tokenizer = null, layout = 'mypt', device = 'cpu', init = true } = options;
    this.config = completeConfig(config);
    this.layout = layoutByName(layout);
    this.tokenizer = tokenizer;
    const { vocabSize, blockSize, nEmbd, nLayer, normBias, lmHeadBias, tieWeights } = this.config;
    this.tokenEmbedding = new Embedding(vocabSize, nEmbd, { device, init: false });
    this.positionEmbedding = new Embedding(blockSize, nEmbd, { device, init: false });
    this.blocks = new ModuleList(Array.from({ length: nLayer }, () => new Block(this.config, device)));
    this.lnF = new LayerNorm(nEmbd, { bias: normBias, device });
    this.lmHead = new Linear(nEmbd, vocabSize, { bias: lmHeadBias, device, init: false });
    if (tieWeights) this.lmHead.weight = this.tokenEmbedding.weight;
    if (init) initialise(this, this.layout, this.config);
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
    let x = this.tokenEmbedding.forward(idx).add(this.positionEmbedding.forward(positions)); // (B, T, C)
    let layer = 0;
    for (const block of this.blocks) x = block.forward(x, cache, layer++);
    return this.lnF.forward(x);
  }

  private checkTokens(idx: Tensor): [number, number] {
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
    const { blockSize } = this.config;
    const mask = ones([blockSize, blockSize], { device: this.device }).tril();
    const firstKeys = new Map<string, string>();
    return this.layout.modules(this.config).flatMap((module) =>
      module.tensors.map((line): StateEntry => {
        const key = prefix === '' ? keyOf(module, line) : `${prefix}.${keyOf(module, line)}`;
        if (!isParameter(line)) return { key, tensor: mask, constant: true };
        if (line.alias !== true) firstKeys.set(line.parameter, key);
        const tensor = partOf(parameters.get(line.parameter)!.detach(), line);
        return {
          key,
          tensor,
          part: line.rows !== undefined,
          aliasOf: line.alias === true ? firstKeys.get(line.parameter) : undefined,
        };
      }),
    );
  }

  /** @internal */
  override statePaths(prefix: string): string[] {
    return this.layout.modules(this.config).map(({ path }) => [prefix, path].filter((part) => part !== '').join('.'));
  }

  /**
   * The state dict of an optimizer over this model's parameters, as the optimizer of the layout's Python program writes
   * it: Python's `load_state_dict` takes it. With several groups, `param_names` tells which keys are in which.
   */
  optimizerStateDict(optimizer: Optimizer): Map<string, unknown> {
    return tidy(() =>
      noGrad(() =>
        optimizerToFile(optimizer.stateDict(), this.groupNames(optimizer), layoutParameters(this.layout, this.config)),
      ),
    );
  }

  /**
   * Loads what the optimizer of the layout's Python program wrote into an optimizer over this model's parameters. Its
   * groups must divide the parameters as the file's do.
   *
   * @throws ERR_TORCHBIND_OPTIMIZER_STATE, in the file's names, for what does not fit or cannot be carried over exactly
   */
  loadOptimizerStateDict(optimizer: Optimizer, stateDict: ReadonlyMap<string, unknown>): void {
    tidy(() =>
      noGrad(() => {
        const shapes = new Map(this.namedParameters().map(([name, { shape }]) => [name, shape]));
        const table = layoutParameters(this.layout, this.config);
        optimizer.loadStateDict(optimizerFromFile(stateDict, this.groupNames(optimizer), table, shapes));
      }),
    );
  }

  /** @internal The parameters in the groups of an optimizer's state dict; all in one where that does not tell. */
  parameterGroups(stateDict: ReadonlyMap<string, unknown> | null): { params: Parameter[] }[] {
    const table = layoutParameters(this.layout, this.config);
    const groups = stateDict === null ? undefined : groupsInFile(stateDict, table);
    if (groups === undefined) return [{ params: this.parameters() }];
    const named = new Map(this.namedParameters());
    return groups.map((names) => ({ params: names.map((name) => named.get(name)!) }));
  }

  private groupNames(optimizer: Optimizer): GroupNames {
    const names = new Map<Tensor, string>(this.namedParameters().map(([name, parameter]) => [parameter, name]));
    return optimizer.paramGroups.map(({ params }) =>
      params.map((parameter) => {
        const name = names.get(parameter);
        if (name !== undefined) return name;
        throw new TorchBindError(
          "The optimizer has a parameter that is not this model's.",
          'ERR_TORCHBIND_INVALID_ARGUMENT',
        );
      }),
    );
  }
}
