import type { Quantization } from '../../nn/quantized-linear';
import type { Tensor } from '../../tensor/tensor';
import type { FamilyFacts, GPTConfig } from '../config';

/**
 * A family of checkpoints, in the variant that a file has: how its files name the tensors of a GPT.
 *
 * A layout is a table with a line for each module of the family's own Python model. The same table says which keys a
 * file has and in which order, what each holds of the model here, and how an optimizer numbers the parameters.
 */
export interface CheckpointLayout {
  /** The family's name. */
  readonly name: string;
  /** For messages: where such files come from. */
  readonly description: string;
  /** What all models of the family have in common besides what their configs say. */
  readonly facts: FamilyFacts;
  /** The family's modules in the order of `named_modules()`, parents before children. */
  modules(config: GPTConfig): LayoutModule[];
  /** How the family's program sets initial weights after PyTorch's defaults have been drawn. */
  readonly initialisation: Initialisation;
  /** The groups of the family's optimizer, where it makes several. */
  readonly optimizerGroups?: OptimizerGroups;
  /** The LoRA adapters among the keys, and the layout without them. */
  readonly adapters?: { readonly spec: LoraSpec; readonly without: CheckpointLayout };
  /** How the Linears' weights are rounded, and the layout that a model is made with before they are. */
  readonly quantized?: { readonly spec: Quantization; readonly without: CheckpointLayout };
}

/** Whether a layout's keys are those of a model of transformers. */
export function isHuggingFace({ name }: Pick<CheckpointLayout, 'name'>): boolean {
  return name.startsWith('hf-');
}

/** LoRA adapters to give a model: what `applyLora` takes. */
export interface LoraOptions {
  /** Rank r of the adapters. */
  rank: number;
  /** What the adapters add is scaled by alpha / rank. */
  alpha: number;
  /** Probability of dropout before the adapters, while training. Default 0. */
  dropout?: number;
  /**
   * The layers that get adapters: `attn.qkv` or `attn.q`, `attn.k`, `attn.v`, then `attn.proj`, `mlp.up`, `mlp.gate`, `mlp.down`,
   * `lmHead`, or one alone, as `blocks.0.attn.qkv`. Default `attn.qkv`, or `attn.q` and `attn.v`, as PEFT has it for GPT-2 and Llama.
   */
  targets?: readonly string[];
  /** Scale by alpha / sqrt(rank) instead (PEFT's `use_rslora`). Default false. */
  rsLora?: boolean;
}

/** How a model was given adapters. */
export interface LoraSpec extends Required<LoraOptions> {
  /** How state dicts name them. */
  readonly keys: LoraKeys;
  /** Whether no gradient goes back through the base weights, but through the adapters alone, as in build_llm_karpathy. */
  readonly detachBase: boolean;
  /** Whether all that has no adapter, embeddings and norms, is trained too. */
  readonly trainOthers: boolean;
}

/**
 * How a state dict holds adapters. `plain`: `key.base_layer.weight`, `key.lora_A` (in, r), `key.lora_B` (r, out), as
 * build_llm_karpathy has them; `transposed`: the same as (r, in) and (out, r), as it had them first; `peft`: as PEFT does.
 */
export type LoraKeys = 'plain' | 'transposed' | 'peft';

/** How a family's optimizer divides the parameters. */
export interface OptimizerGroups {
  /** The group of a parameter with that key and number of dimensions: 0 decays, 1 does not. */
  groupOf(line: KeyedParameter, ndim: number): 0 | 1;
  /** Order within a group: that of `named_parameters()`, or of the names. */
  order: 'definition' | 'alphabetical';
  /** Weight decay of each group. */
  weightDecay: readonly [number, number];
  betas: readonly [number, number];
}

/** The groups of nanoGPT and of Hugging Face's Trainer for GPT-2: what has two dimensions decays. */
export const decayMatrices: OptimizerGroups = {
  groupOf: (_, ndim) => (ndim >= 2 ? 0 : 1),
  order: 'definition',
  weightDecay: [0.1, 0],
  betas: [0.9, 0.95],
};

/**
 * `pytorch`: each layer's default. `normal_02`: then Linear and Embedding anew from N(0, 0.02^2), biases 0, children
 * first. `gpt2`: then the projections back into the residual stream anew from N(0, 0.02^2 / (2 nLayer)); `gpt2_mlp`:
 * only those of MLPs.
 */
export type Initialisation = 'pytorch' | 'normal_02' | 'gpt2' | 'gpt2_mlp';

/** A module of a family's Python model. */
export interface LayoutModule {
  /** Its dotted path; '' for the model itself. */
  path: string;
  /** Its parameters and persistent buffers, in the order in which they are registered. */
  tensors: LayoutTensor[];
}

/** A tensor of a family's files. */
export type LayoutTensor = LayoutParameter | LayoutBuffer;

/** A part of a parameter of the model here. */
export interface LayoutParameter {
  /** Its name in its module: `weight`, `bias`. */
  name: string;
  /** The parameter's name in the model here: `blocks.0.attn.qkv.weight`. */
  parameter: string;
  /** Rows of it, from and up to but without; all where left out. */
  rows?: readonly [number, number];
  /** The file has it as (in, out), as Conv1D does, where the model here has (out, in). */
  transpose?: boolean;
  /** Another name of a tensor that came before (tied weights): one parameter for optimizers, two keys in files. */
  alias?: boolean;
}

/** A tensor that follows from the config: the causal mask, ones up to the diagonal, or one value. */
export interface LayoutBuffer {
  name: string;
  buffer: 'causal_mask' | number;
  /** Default (T, T) for a mask, () for a value. */
  shape?: readonly number[];
  /** Default float32. */
  dtype?: 'float32' | 'bool' | 'uint8' | 'int64';
}

/** A parameter's part under its full key. */
export interface KeyedParameter extends LayoutParameter {
  key: string;
}

/** Whether a line of the table is a parameter. */
export function isParameterLine(tensor: LayoutTensor): tensor is LayoutParameter {
  return 'parameter' in tensor;
}

/** The key of a module's tensor. */
export function keyOf(module: LayoutModule, tensor: LayoutTensor): string {
  return module.path === '' ? tensor.name : `${module.path}.${tensor.name}`;
}

/** The parameters that the family's optimizer sees, in its order: that of `named_parameters()`. */
export function layoutParameters(layout: CheckpointLayout, config: GPTConfig): KeyedParameter[] {
  return layout.modules(config).flatMap((module) =>
    module.tensors
      .filter(isParameterLine)
      .filter((tensor) => tensor.alias !== true)
      .map((tensor) => ({ ...tensor, key: keyOf(module, tensor) })),
  );
}

/** A view of the part of `parameter` for a line of the table, in the form of the file. */
export function partOf(parameter: Tensor, { rows, transpose }: LayoutParameter): Tensor {
  const part = rows === undefined ? parameter : parameter.narrow(0, rows[0], rows[1] - rows[0]);
  return transpose === true ? part.t() : part;
}

/** Whether a line of the table is less than a parameter as it is here. */
export function isPart({ rows, transpose }: LayoutParameter): boolean {
  return rows !== undefined || transpose === true;
}

/** A module without tensors of its own; state dicts list it in their metadata. */
export function empty(path: string): LayoutModule {
  return { path, tensors: [] };
}

/** What lines of a module's tensors have in common. */
export type LineOptions = Pick<LayoutParameter, 'rows' | 'alias'> & {
  /** Of the weight; a bias has one dimension. */
  transpose?: boolean;
};

/** A module with a weight, and a bias where it has one, that are (parts of) those of the module `parameter` here. */
export function weighted(path: string, parameter: string, bias: boolean, options: LineOptions = {}): LayoutModule {
  const { transpose, ...common } = options;
  const weight = { name: 'weight', parameter: `${parameter}.weight`, ...common, ...(transpose ? { transpose } : {}) };
  return {
    path,
    tensors: bias ? [weight, { name: 'bias', parameter: `${parameter}.bias`, ...common }] : [weight],
  };
}

/** A head whose weight may be the token embedding's. */
export function headModule(path: string, config: GPTConfig): LayoutModule {
  const module = weighted(path, 'lmHead', config.lmHeadBias);
  if (config.tieWeights) module.tensors[0] = { name: 'weight', parameter: 'tokenEmbedding.weight', alias: true };
  return module;
}
