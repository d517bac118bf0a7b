import { checkArgument, checkIterable, describe, requireOptions, TorchBindError } from '../errors';
import { multiply } from '../nn/decoding';
import { Dropout } from '../nn/dropout';
import { kaimingUniform_, zeros_ } from '../nn/init';
import { Linear } from '../nn/linear';
import { Module } from '../nn/module';
import { Parameter } from '../nn/parameter';
import { noGrad } from '../tensor/autograd';
import { empty } from '../tensor/creation';
import { linear } from '../tensor/generated/functions';
import { tidy } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import { GPTModel } from './gpt-model';
import { layoutByName } from './layouts';
import { isHuggingFace, type LoraOptions, type LoraSpec } from './layouts/layout';
import { refuseQuantized } from './quantize';
import { adapterSlots, loraLayout, matchTargets } from './layouts/lora';

type LayerSpec = Pick<LoraSpec, 'rank' | 'alpha' | 'dropout' | 'rsLora' | 'detachBase'>;

/**
 * A Linear with frozen weights and an adapter of low rank (Hu et al., "LoRA", arXiv 2106.09685):
 * y = x W^T + b + (alpha / r) dropout(x) A^T B^T.
 *
 * A fused layer may hold several adapters, each for an equal share of the output: A (n r, in), B (out, r).
 */
export class LoraLinear extends Module implements Linear {
  weight: Parameter;
  bias: Parameter | null;
  /** A: (n r, in), n adapters of rank r; float32, as in PEFT, whatever the weights are in. */
  loraA: Parameter;
  /** B: (out, r); the n-th of its parts in equal shares belongs to the n-th r rows of A. */
  loraB: Parameter;
  readonly dropout: Dropout;
  /** Weight and adapters in one, (out, in), while merged; else null. */
  merged: Tensor | null = null;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly rank: number;
  /** What the adapter's output is multiplied by. */
  readonly scaling: number;
  private readonly detachBase: boolean;

  /** @param slots n */
  constructor(
    base: Linear,
    spec: LayerSpec,
    private readonly slots = 1,
  ) {
    super();
    checkLayer(base, spec, slots);
    const { rank, alpha, rsLora, detachBase } = spec;
    const { device } = base.weight;
    this.inFeatures = base.inFeatures;
    this.outFeatures = base.outFeatures;
    this.weight = base.weight;
    this.bias = base.bias;
    this.loraA = new Parameter(empty([slots * rank, base.inFeatures], { device }));
    this.loraB = new Parameter(empty([base.outFeatures, rank], { device }));
    this.dropout = new Dropout(spec.dropout);
    this.rank = rank;
    this.scaling = alpha / (rsLora ? Math.sqrt(rank) : rank);
    this.detachBase = detachBase;
    this.training = base.training;
    this.resetParameters();
  }

  /**
   * Initialises A as PyTorch initialises a Linear's weight, and sets B to zero, so that the layer computes what its
   * base does.
   */
  resetParameters(): void {
    kaimingUniform_(this.loraA, { a: Math.sqrt(5) });
    zeros_(this.loraB);
  }

  forward(input: Tensor): Tensor {
    if (this.training) this.unmerge();
    if (this.merged !== null) return multiply(input, this.merged, this.bias);
    const compute = (): Tensor => multiply(input, this.weight, this.bias);
    const base = this.detachBase ? noGrad(compute) : compute();
    const own = this.adapt(this.dropout.forward(input).to(this.loraA.dtype)).mul(this.scaling);
    return base.add(own.to(base.dtype));
  }

  /** (..., in) to (..., out), without scaling. */
  private adapt(input: Tensor): Tensor {
    const low = linear(input, this.loraA); // (..., n r)
    if (this.slots === 1) return linear(low, this.loraB);
    const parts = low.reshape([-1, this.slots, this.rank]).transpose(0, 1); // (n, N, r)
    const high = parts.matmul(this.ups().transpose(1, 2)); // (n, N, out / n)
    return high.transpose(0, 1).reshape([...input.shape.slice(0, -1), this.outFeatures]);
  }

  /** B of each adapter: (n, out / n, r). */
  private ups(): Tensor {
    return this.loraB.view([this.slots, this.outFeatures / this.slots, this.rank]);
  }

  /** The change that the adapters make to the weight: (out, in). */
  delta(): Tensor {
    const downs = this.loraA.view([this.slots, this.rank, this.inFeatures]);
    return this.ups().matmul(downs).reshape([this.outFeatures, this.inFeatures]).mul(this.scaling);
  }

  /**
   * Merges the current weight and adapters into one matrix for faster inference. The weights do not change. Training
   * unmerges.
   */
  merge(): void {
    this.unmerge();
    noGrad(() =>
      tidy(() =>
        this.registerBuffer('merged', this.weight.add(this.delta().to(this.weight.dtype)), { persistent: false }),
      ),
    );
  }

  /** Computes with separate adapters again. */
  unmerge(): void {
    this.merged?.dispose();
    this.merged = null;
  }
}

/**
 * Adds trainable LoRA adapters to layers of a model and freezes everything else. In the layout `build-llm` only the
 * weights of those layers are frozen, as in its program.
 *
 * State dicts then include the adapters: in PEFT's keys for Hugging Face layouts, else in those of build_llm_karpathy
 * (`key.base_layer.weight`, `key.lora_A` (in, r), `key.lora_B` (r, out)).
 *
 * @throws ERR_TORCHBIND_INVALID_ARGUMENT for an invalid rank, alpha, dropout or target, and for a model that has
 *   adapters already
 */
export function applyLora(model: GPTModel, options: LoraOptions): void {
  requireOptions(options, ['rank', 'alpha', 'dropout', 'targets', 'rsLora'], 'applyLora');
  check(model instanceof GPTModel, 'model', model, 'a GPT');
  const usual = model.config.fusedQkv ? ['attn.qkv'] : ['attn.q', 'attn.v'];
  const { targets = usual, dropout = 0, rsLora = false } = options;
  const buildLlm = model.layout.name === 'build-llm';
  const keys = isHuggingFace(model.layout) ? 'peft' : 'plain';
  attachLora(model, { ...options, targets, dropout, rsLora, keys, detachBase: buildLlm, trainOthers: buildLlm });
}

/** @internal As `applyLora`, in the way of a family. */
export function attachLora(model: GPTModel, spec: LoraSpec): void {
  checkRank(spec);
  checkIterable(spec.targets, "an array of names for 'targets'", 'LoRA');
  const wanted = [...spec.targets];
  for (const target of wanted) check(typeof target === 'string', 'targets', target, 'names of layers');
  refuseQuantized(model, 'LoRA');
  check(model.lora === null, 'model', model.lora, 'one without adapters');
  const layers = new Map(linears(model));
  const targets = matchTargets([...layers.keys()], wanted);
  const whole = { ...spec, targets };
  // PEFT's keys are those of the whole model, whatever form the base's file has.
  const inner = spec.keys === 'peft' ? layoutByName(model.layout.name) : model.layout;
  const slots = adapterSlots(inner, model.config);
  if (!spec.trainOthers) model.requiresGrad_(false);
  for (const name of targets) {
    const base = layers.get(name)!;
    base.requiresGrad_(false);
    place(model, name, new LoraLinear(base, spec, slots.get(name)));
  }
  model.setLayout(loraLayout(inner, whole));
}

function checkRank({ rank, alpha }: Pick<LoraSpec, 'rank' | 'alpha'>): void {
  check(Number.isSafeInteger(rank) && rank >= 1, 'rank', rank, 'an integer of at least 1');
  check(Number.isFinite(alpha), 'alpha', alpha, 'a number');
}

function checkLayer(base: Linear, spec: LayerSpec, slots: number): void {
  checkArgument(base instanceof Module && 'inFeatures' in base && 'weight' in base, 'a Linear', base, 'LoraLinear');
  checkArgument(typeof spec === 'object' && spec !== null, 'an object of rank and alpha', spec, 'LoraLinear');
  checkRank(spec);
  const isDivisor = Number.isSafeInteger(slots) && slots >= 1 && base.outFeatures % slots === 0;
  check(isDivisor, 'slots', slots, `a divisor of ${base.outFeatures}`);
}

/** Layers that can have an adapter, by name. */
function linears(model: GPTModel): [string, Linear][] {
  return model
    .namedModules()
    .filter((entry): entry is [string, Linear] => 'inFeatures' in entry[1] && 'weight' in entry[1]);
}

function place(model: GPTModel, name: string, layer: Module): void {
  const dot = name.lastIndexOf('.');
  const parents = new Map(model.namedModules());
  Reflect.set(parents.get(name.slice(0, Math.max(dot, 0)))!, name.slice(dot + 1), layer);
}

/** The layers of a model with adapters. */
export function loraLayers(model: Module): LoraLinear[] {
  check(model instanceof Module, 'model', model, 'a module');
  return model.modules().filter((module): module is LoraLinear => module instanceof LoraLinear);
}

/** Merges the adapters of all layers for inference: see `LoraLinear.merge`. */
export function mergeLora(model: Module): void {
  for (const layer of loraLayers(model)) layer.merge();
}

/** Undoes `mergeLora` bit-for-bit. */
export function unmergeLora(model: Module): void {
  for (const layer of loraLayers(model)) layer.unmerge();
}

/**
 * Adds the adapters to the weights permanently. The model then has no adapters and can be saved in any form. A head
 * that shares the token embedding's weight gets its own if it has an adapter. Optimizers over the model become invalid.
 */
export function foldLora(model: GPTModel): void {
  const adapters = model instanceof GPTModel ? model.layout.adapters : undefined;
  if (adapters === undefined) throw refuse('model', model, 'a GPT with adapters');
  for (const [name, layer] of model.namedModules())
    if (layer instanceof LoraLinear) place(model, name, fold(layer, model));
  model.setLayout(adapters.without);
  model.requiresGrad_(true);
}

function fold(layer: LoraLinear, model: GPTModel): Linear {
  layer.merge();
  const plain = new Linear(layer.inFeatures, layer.outFeatures, { bias: false, init: false });
  plain.weight.dispose();
  plain.weight = new Parameter(layer.merged!);
  plain.bias = layer.bias;
  plain.training = layer.training;
  const tied = layer.weight === model.tokenEmbedding.weight;
  if (tied) Object.assign(model.config, { tieWeights: false });
  else layer.weight.dispose();
  for (const tensor of [layer.loraA, layer.loraB, layer.merged!]) tensor.dispose();
  return plain;
}

function check(valid: boolean, name: string, value: unknown, expected: string): void {
  if (!valid) throw refuse(name, value, expected);
}

function refuse(name: string, value: unknown, expected: string): TorchBindError {
  return new TorchBindError(
    `LoRA: ${name} must be ${expected}, but is ${describe(value)}.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}
