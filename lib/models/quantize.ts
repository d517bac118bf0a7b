import { requireOptions, TorchBindError } from '../errors';
import { Linear } from '../nn/linear';
import type { Module } from '../nn/module';
import { checkQuantization, type Quantization, QuantizedLinear } from '../nn/quantized-linear';
import type { GPTModel } from './gpt-model';
import { quantizedLayout } from './layouts/quantized';

/** Options of `gpt.quantize`. */
export interface QuantizeOptions {
  /**
   * Bits of a weight. 8: a scale for each row, close to the original. 4: about half the size of 8 bits, with a larger
   * error.
   */
  bits: 8 | 4;
  /**
   * With 4 bits: number of columns of a row that share a scale and a zero point: 32, 64, 128 or 256. Default 32, the
   * most accurate.
   */
  groupSize?: number;
}

/**
 * Rounds the weights of all Linears to integers, in place. The rest becomes bfloat16.
 *
 * @throws ERR_TORCHBIND_INVALID_ARGUMENT for options without a kernel, for a model with adapters and for one that is
 *   quantized already; ERR_TORCHBIND_DEVICE for one that is not on the CPU
 */
export function quantizeModel(model: GPTModel, options: QuantizeOptions): void {
  requireOptions(options, ['bits', 'groupSize'], 'quantize');
  const { bits, groupSize = bits === 4 ? 32 : null } = options;
  const spec = { bits, groupSize };
  checkQuantization(spec, 'quantize');
  if (model.quantization !== null) throw refuse(`its weights have ${model.quantization.bits} bits already`);
  if (model.lora !== null) throw refuse('it has LoRA adapters; foldLora(model) puts them into the weights');
  const layers = linearsOf(model);
  const rounded = layers.map(([, layer]) => QuantizedLinear.from(layer, spec)); // refuses before anything is changed
  replace(model, spec, layers, rounded);
  model.to('bfloat16');
}

/** @internal Gives a model layers whose quantized weights are unset: for weights that are loaded next. */
export function attachQuantized(model: GPTModel, spec: Quantization): void {
  checkQuantization(spec, 'GPT');
  const layers = linearsOf(model);
  const { device } = model;
  const unset = layers.map(
    ([, { inFeatures, outFeatures, bias }]) =>
      new QuantizedLinear(inFeatures, outFeatures, { ...spec, bias: bias !== null, device }),
  );
  replace(model, spec, layers, unset);
  if (device !== 'meta') model.to('bfloat16');
}

function linearsOf(model: GPTModel): [string, Linear][] {
  return model.namedModules().filter((entry): entry is [string, Linear] => entry[1] instanceof Linear);
}

function replace(
  model: GPTModel,
  spec: Quantization,
  layers: readonly [string, Linear][],
  quantized: readonly QuantizedLinear[],
): void {
  const parts = new Map<string, Module>(model.namedModules());
  const embedding = model.tokenEmbedding.weight;
  layers.forEach(([path, layer], i) => {
    const dot = path.lastIndexOf('.');
    Reflect.set(parts.get(path.slice(0, Math.max(dot, 0)))!, path.slice(dot + 1), quantized[i]!);
    layer.bias?.dispose();
    if (layer.weight !== embedding) layer.weight.dispose();
  });
  // The head was tied to the token embedding; now it has its own quantized weights.
  Object.assign(model.config, { tieWeights: false });
  model.requiresGrad_(false);
  model.setLayout(quantizedLayout(spec));
}

/** @throws ERR_TORCHBIND_INVALID_ARGUMENT for a model whose weights cannot be trained */
export function refuseQuantized(model: GPTModel, where: string): void {
  if (model.quantization === null) return;
  throw new TorchBindError(
    `${where}: the model is quantized to ${model.quantization.bits} bits. Integer weights have no gradients, so it cannot be trained. ` +
      'Train the original model, and quantize the result.',
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

function refuse(reason: string): TorchBindError {
  return new TorchBindError(`quantize: the model cannot be quantized: ${reason}.`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
