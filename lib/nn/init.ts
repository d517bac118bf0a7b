/**
 * Initialisation of parameters (PyTorch's `torch.nn.init`).
 *
 * @module
 */

import { checkArgument, checkOptions, takes, TorchBindError } from '../errors';
import { noGrad } from '../tensor/autograd';
import type { Generator } from '../tensor/random';
import { type Tensor, unwrap } from '../tensor/tensor';

/**
 * PyTorch's `torch.nn.init`: fills a tensor in place and returns it. From the same generator state the values are
 * PyTorch's bit for bit.
 */

/** The function after a layer, by its `torch.nn.functional` name. */
export type Nonlinearity =
  'linear' | 'conv1d' | 'conv2d' | 'conv3d' | 'sigmoid' | 'tanh' | 'relu' | 'leaky_relu' | 'selu';

/** Which generator draws; default the global one of the tensor's device. */
export interface DrawOptions {
  generator?: Generator | null;
}

/** Options of the Kaiming initialisers. */
export interface KaimingOptions extends DrawOptions {
  /** Negative slope of the leaky rectifier after the layer. Default 0. */
  a?: number;
  /** Keep the variance of the forward pass (`fan_in`, default) or of the backward pass (`fan_out`). */
  mode?: 'fan_in' | 'fan_out';
  /** Default `leaky_relu`. */
  nonlinearity?: Nonlinearity;
}

/** Options of the Xavier initialisers. */
export interface XavierOptions extends DrawOptions {
  /** Scaling factor. Default 1. */
  gain?: number;
}

const KAIMING_OPTIONS = ['generator', 'a', 'mode', 'nonlinearity'];
const XAVIER_OPTIONS = ['generator', 'gain'];

function check(tensor: Tensor, options: object, allowed: readonly string[], where: string): void {
  checkOptions(options, allowed, where);
  unwrap(tensor, where);
}

/** Draws from U(a, b). */
export const uniform_ = takes(4, function uniform_(tensor: Tensor, a = 0, b = 1, options: DrawOptions = {}): Tensor {
  check(tensor, options, ['generator'], 'uniform_');
  return noGrad(() => tensor.uniform_(a, b, { generator: options.generator ?? null }));
});

/** Draws from N(mean, std^2). */
export const normal_ = takes(4, function normal_(tensor: Tensor, mean = 0, std = 1, options: DrawOptions = {}): Tensor {
  check(tensor, options, ['generator'], 'normal_');
  return noGrad(() => tensor.normal_(mean, std, { generator: options.generator ?? null }));
});

/** Sets every element to `value`. */
export const constant_ = takes(2, function constant_(tensor: Tensor, value: number): Tensor {
  unwrap(tensor, 'constant_');
  return noGrad(() => tensor.fill_(value));
});

/** Sets every element to 1. */
export const ones_ = takes(1, function ones_(tensor: Tensor): Tensor {
  return constant_(tensor, 1);
});

/** Sets every element to 0. */
export const zeros_ = takes(1, function zeros_(tensor: Tensor): Tensor {
  unwrap(tensor, 'zeros_');
  return noGrad(() => tensor.zero_());
});

/**
 * U(-bound, bound) with bound = gain * sqrt(3 / fan): He et al. 2015, "Delving deep into rectifiers".
 *
 * @throws ERR_TORCHBIND_INVALID_ARGUMENT for a tensor with fewer than 2 dimensions
 */
export const kaimingUniform_ = takes(2, function kaimingUniform_(tensor: Tensor, options: KaimingOptions = {}): Tensor {
  check(tensor, options, KAIMING_OPTIONS, 'kaimingUniform_');
  if (tensor.numel() === 0) return tensor;
  const bound = Math.sqrt(3) * kaimingStd(tensor, options);
  return uniform_(tensor, -bound, bound, { generator: options.generator });
});

/**
 * N(0, gain^2 / fan): He et al. 2015.
 *
 * @throws ERR_TORCHBIND_INVALID_ARGUMENT for a tensor with fewer than 2 dimensions
 */
export const kaimingNormal_ = takes(2, function kaimingNormal_(tensor: Tensor, options: KaimingOptions = {}): Tensor {
  check(tensor, options, KAIMING_OPTIONS, 'kaimingNormal_');
  if (tensor.numel() === 0) return tensor;
  return normal_(tensor, 0, kaimingStd(tensor, options), { generator: options.generator });
});

/**
 * U(-a, a) with a = gain * sqrt(6 / (fanIn + fanOut)): Glorot and Bengio 2010.
 *
 * @throws ERR_TORCHBIND_INVALID_ARGUMENT for a tensor with fewer than 2 dimensions
 */
export const xavierUniform_ = takes(2, function xavierUniform_(tensor: Tensor, options: XavierOptions = {}): Tensor {
  check(tensor, options, XAVIER_OPTIONS, 'xavierUniform_');
  const a = Math.sqrt(3) * xavierStd(tensor, options);
  return uniform_(tensor, -a, a, { generator: options.generator });
});

/**
 * N(0, gain^2 * 2 / (fanIn + fanOut)): Glorot and Bengio 2010.
 *
 * @throws ERR_TORCHBIND_INVALID_ARGUMENT for a tensor with fewer than 2 dimensions
 */
export const xavierNormal_ = takes(2, function xavierNormal_(tensor: Tensor, options: XavierOptions = {}): Tensor {
  check(tensor, options, XAVIER_OPTIONS, 'xavierNormal_');
  return normal_(tensor, 0, xavierStd(tensor, options), { generator: options.generator });
});

/** The gain that PyTorch recommends before a nonlinearity; `param` is the slope of `leaky_relu`, default 0.01. */
export const calculateGain = takes(2, function calculateGain(nonlinearity: Nonlinearity, param = 0.01): number {
  checkArgument(typeof param === 'number', 'a slope', param, 'calculateGain');
  switch (nonlinearity) {
    case 'tanh':
      return 5 / 3;
    case 'relu':
      return Math.sqrt(2);
    case 'leaky_relu':
      return Math.sqrt(2 / (1 + param * param));
    case 'selu':
      return 3 / 4;
    default:
      return 1;
  }
});

/**
 * Inputs and outputs that an element of a weight (out, in, ...kernel) meets.
 *
 * @throws ERR_TORCHBIND_INVALID_ARGUMENT for a tensor with fewer than 2 dimensions
 */
export const calculateFans = takes(1, function calculateFans(tensor: Tensor): { fanIn: number; fanOut: number } {
  unwrap(tensor, 'calculateFans');
  const [out, input, ...kernel] = tensor.shape;
  if (out === undefined || input === undefined) {
    throw new TorchBindError(
      `Fan in and fan out need a tensor with 2 or more dimensions, but the shape is [${tensor.shape.join(', ')}].`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  const receptiveField = kernel.reduce((product, size) => product * size, 1);
  return { fanIn: input * receptiveField, fanOut: out * receptiveField };
});

function kaimingStd(tensor: Tensor, { a = 0, mode = 'fan_in', nonlinearity = 'leaky_relu' }: KaimingOptions): number {
  const { fanIn, fanOut } = calculateFans(tensor);
  return calculateGain(nonlinearity, a) / Math.sqrt(mode === 'fan_in' ? fanIn : fanOut);
}

function xavierStd(tensor: Tensor, { gain = 1 }: XavierOptions): number {
  checkArgument(typeof gain === 'number', "a number for 'gain'", gain, 'nn.init');
  const { fanIn, fanOut } = calculateFans(tensor);
  return gain * Math.sqrt(2 / (fanIn + fanOut));
}
