import { checkArgument, requireOptions, TorchBindError } from '../errors';
import { noGrad, withoutInferenceMode } from '../tensor/autograd/modes';
import { zeros } from '../tensor/creation';
import { constantPadNd, stack } from '../tensor/generated/functions';
import { Operator } from '../tensor/operator';
import { tidy } from '../tensor/scope';
import { type Tensor, unwrap } from '../tensor/tensor';
import { multiplyInt8 } from './decoding';
import { Linear } from './linear';
import { Module } from './module';
import { emptyParameter, Parameter } from './parameter';
import { pythonBool } from './print';
import type { DeviceName } from '../tensor/schema-types';

/** How weights are rounded. */
export interface Quantization {
  /** Bits of a weight: 8, with one scale for each row, or 4, with a scale and a zero point for each group of a row. */
  bits: 8 | 4;
  /** Columns of a row that share a scale: 32, 64, 128 or 256. With 8 bits null: a row has one. */
  groupSize: number | null;
}

/**
 * A Linear whose weights are integers of 8 or 4 bits, for inference on the CPU: y = x W^T + b, (..., in) to (..., out), computed with
 * activations in bfloat16 and sums in float32 (`torch.ops.aten._weight_int8pack_mm`, `_weight_int4pack_mm_for_cpu`). Where
 * `torchbind::linear` is used, a generated token with 8 bits takes activations of 16 bits, which are nearer to float32.
 *
 * The weights are, for row i and column j:
 *
 * - 8 bits: `weight[i, j] * scales[i]`; weight int8 (out, in), scales bfloat16 (out).
 * - 4 bits: `(q[i, j] - 8) * scales[g, i, 0] + scales[g, i, 1]` with g = j / groupSize, rounded down; weight uint8 (out, in / 2) holds
 *   two q from 0 to 15 in a byte, that of the even column in the low bits; scales bfloat16 (in / groupSize, out, 2).
 *
 * The kernel for 4 bits wants the weights in an order that depends on the processor, and whole blocks of rows: `packed` and
 * `packedScales`, which state dicts do not hold.
 */
export class QuantizedLinear extends Module {
  weight: Parameter;
  scales: Parameter;
  bias: Parameter | null;
  /** Weights and scales of 4 bits as the kernel of this processor wants them; null where there are none, or not yet. */
  packed: Tensor | null = null;
  packedScales: Tensor | null = null;
  readonly bits: 8 | 4;
  readonly groupSize: number | null;

  /** A layer whose weights are unset: `from` makes one of a Linear's. */
  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    options: Quantization & { bias?: boolean; device?: DeviceName },
  ) {
    super();
    requireOptions(options, ['bits', 'groupSize', 'bias', 'device'], 'QuantizedLinear');
    const { bits, groupSize, bias = true, device = 'cpu' } = options;
    checkQuantization({ bits, groupSize }, 'QuantizedLinear');
    checkGroups(inFeatures, outFeatures, groupSize);
    this.bits = bits;
    this.groupSize = groupSize;
    const frozen = (make: () => Tensor): Parameter => tidy(() => new Parameter(make(), { requiresGrad: false }));
    const columns = bits === 8 ? inFeatures : inFeatures / 2;
    const dtype = bits === 8 ? 'int8' : 'uint8';
    const shape = groupSize === null ? [outFeatures] : [inFeatures / groupSize, outFeatures, 2];
    this.weight = emptyParameter([outFeatures, columns], { dtype, device }, false);
    this.scales = emptyParameter(shape, { dtype: 'bfloat16', device }, false);
    this.bias = bias ? frozen(() => zeros([outFeatures], { dtype: 'bfloat16', device })) : null;
  }

  /** The nearest layer to a Linear on the CPU, in whatever floating dtype; the Linear stays as it is. */
  static from(linear: Linear, quantization: Quantization): QuantizedLinear {
    checkArgument(linear instanceof Linear, 'a Linear', linear, 'QuantizedLinear.from()');
    requireOptions(quantization, ['bits', 'groupSize'], 'QuantizedLinear.from()');
    const { inFeatures, outFeatures, weight, bias } = linear;
    if (weight.device !== 'cpu') throw wrongDevice(weight.device);
    const layer = new QuantizedLinear(inFeatures, outFeatures, { ...quantization, bias: bias !== null });
    noGrad(() =>
      tidy(() => {
        if (bias !== null) layer.bias!.copy_(bias);
        roundRows(weight.detach(), layer, quantization.groupSize);
      }),
    );
    layer.pack();
    layer.training = linear.training;
    return layer;
  }

  override extraRepr(): string {
    return `in_features=${this.inFeatures}, out_features=${this.outFeatures}, bias=${pythonBool(this.bias !== null)}, bits=${this.bits}, group_size=${this.groupSize ?? 'None'}`;
  }

  forward(input: Tensor): Tensor {
    unwrap(input, 'QuantizedLinear: input');
    if (this.weight.device !== 'cpu') throw wrongDevice(this.weight.device);
    const decoded = this.groupSize === null ? multiplyInt8(input, this.weight, this.bias, this.scales) : null;
    if (decoded !== null) return decoded;
    const shape = input.shape;
    const rows = input.reshape([-1, this.inFeatures]).to('bfloat16'); // (N, in)
    const product = this.multiply(rows); // (N, out)
    const sum = this.bias === null ? product : product.add(this.bias.to('bfloat16'));
    return sum.reshape([...shape.slice(0, -1), this.outFeatures]).to(input.dtype);
  }

  private multiply(rows: Tensor): Tensor {
    if (this.groupSize === null) return int8().call3(rows, this.weight, this.scales.to('bfloat16')) as Tensor;
    if (this.packed === null || this.packedScales === null) this.pack();
    const product = int4().call([rows, this.packed, this.groupSize, this.packedScales]) as Tensor; // (N, out and padding)
    return product.narrow(1, 0, this.outFeatures);
  }

  /** Makes what the kernel for 4 bits wants of the weights as they are now. */
  pack(): void {
    this.packed?.dispose();
    this.packedScales?.dispose();
    this.packed = null;
    this.packedScales = null;
    if (this.bits === 8 || this.weight.device !== 'cpu') return;
    withoutInferenceMode(() => noGrad(() => tidy(() => this.makePacked())));
  }

  private makePacked(): void {
    const { weight, scales, inFeatures, outFeatures } = this;
    const padding = ROWS * Math.ceil(outFeatures / ROWS) - outFeatures;
    const bytes = weight.detach();
    const columns = stack([bytes.bitwiseAnd(15), bytes.bitwiseRightShift(4)], -1); // (out, in / 2, 2)
    const values = columns.to('int32').view([outFeatures, inFeatures]);
    const padded = constantPadNd(values, [0, 0, 0, padding], 0).contiguous();
    const paddedScales = constantPadNd(scales.detach().to('bfloat16'), [0, 0, 0, padding], 0).contiguous();
    this.registerBuffer('packed', packer().call2(padded, 2) as Tensor, { persistent: false });
    this.registerBuffer('packedScales', paddedScales, { persistent: false });
  }
}

/** Brings what the kernels want of the weights of all layers up to date with them. */
export function packWeights(module: Module): void {
  for (const part of module.modules()) if (part instanceof QuantizedLinear) part.pack();
}

/** The kernel for 4 bits computes so many rows of the weight at a time. */
const ROWS = 64;
/** Columns of the group sizes that it knows. */
const GROUPS = [32, 64, 128, 256];

const operators = new Map<string, Operator>();

function operator(name: string): Operator {
  let found = operators.get(name);
  if (found === undefined) operators.set(name, (found = new Operator(name, '')));
  return found;
}

const int8 = (): Operator => operator('aten::_weight_int8pack_mm');
const int4 = (): Operator => operator('aten::_weight_int4pack_mm_for_cpu');
const packer = (): Operator => operator('aten::_convert_weight_to_int4pack_for_cpu');

/**
 * Rounds rows of a Linear's weight, (rows, in) in whatever floating dtype, into the same rows of a quantized one's tensors. Rows are
 * rounded each by itself, so that a large weight can be rounded in parts.
 */
export function roundRows(rows: Tensor, into: RoundedRows, groupSize: number | null): void {
  const values = rows.to('float32');
  if (groupSize === null) round8(values, into);
  else round4(values, into, groupSize);
}

/** Rows of the weight and the scales of a `QuantizedLinear`. */
export interface RoundedRows {
  weight: Tensor;
  scales: Tensor;
}

/** Rounds each row of the weight (out, in) to 255 steps around 0. */
function round8(values: Tensor, { weight, scales }: RoundedRows): void {
  // The scale as it is kept, in bfloat16, decides: then no integer is beyond 127 by its rounding alone.
  scales.copy_(values.abs().amax([1]).div(127).clamp(SMALLEST));
  const steps = values.div(scales.to('float32').unsqueeze(1)).round().clamp(-127, 127);
  weight.copy_(steps);
}

/** Rounds each group of a row of the weight (out, in) to 16 steps from its smallest to its largest value. */
function round4(values: Tensor, { weight, scales }: RoundedRows, groupSize: number): void {
  const [outFeatures, inFeatures] = values.shape as [number, number];
  const groups = values.view([outFeatures, inFeatures / groupSize, groupSize]);
  const [low, high] = [groups.amin([2]), groups.amax([2])]; // (out, groups)
  const scale = high.sub(low).div(15).clamp(SMALLEST).to('bfloat16');
  const zero = low.add(scale.to('float32').mul(8)).to('bfloat16');
  scales.copy_(stack([scale, zero], -1).transpose(0, 1)); // (groups, out, 2)
  const shifted = groups.sub(zero.to('float32').unsqueeze(-1)).div(scale.to('float32').unsqueeze(-1));
  const steps = shifted
    .add(8)
    .round()
    .clamp(0, 15)
    .to('uint8')
    .view([outFeatures, inFeatures / 2, 2]);
  weight.copy_(steps.select(2, 0).bitwiseOr(steps.select(2, 1).bitwiseLeftShift(4)));
}

/** The smallest scale: a row of zeros has one too. */
const SMALLEST = 1e-8;

/** @throws ERR_TORCHBIND_INVALID_ARGUMENT for bits and group sizes without a kernel */
export function checkQuantization({ bits, groupSize }: Quantization, where: string): void {
  checkArgument(bits === 8 || bits === 4, "8 or 4 for 'bits'", bits, where);
  if (bits === 8) checkArgument(groupSize === null, "no 'groupSize' with 8 bits", groupSize, where);
  else
    checkArgument(
      GROUPS.includes(groupSize as number),
      `one of ${GROUPS.join(', ')} for 'groupSize'`,
      groupSize,
      where,
    );
}

/** @throws ERR_TORCHBIND_INVALID_ARGUMENT where the groups of a row do not fill it */
export function checkGroups(inFeatures: number, outFeatures: number, groupSize: number | null): void {
  if (groupSize !== null && inFeatures % groupSize !== 0) throw doesNotDivide(inFeatures, outFeatures, groupSize);
}

function doesNotDivide(inFeatures: number, outFeatures: number, groupSize: number): TorchBindError {
  return new TorchBindError(
    `QuantizedLinear: groupSize ${groupSize} does not divide the ${inFeatures} columns of a layer (${outFeatures}, ${inFeatures}). Choose a ` +
      `smaller groupSize, of ${GROUPS.join(', ')}, or 8 bits.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

function wrongDevice(device: DeviceName): TorchBindError {
  return new TorchBindError(
    `Quantized weights work on the CPU only, and these are on '${device}'. Move the model with to('cpu'), or use the original model on '${device}'.`,
    'ERR_TORCHBIND_DEVICE',
  );
}
