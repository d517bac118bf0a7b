import { checkArgument, checkFunction, checkIterable, checkOptions, takes, TorchBindError } from '../../errors';
import { Tensor, unwrap } from '../core';
import { rand, zeros } from '../creation';
import { stack, zerosLike } from '../generated/functions';
import { tidy } from '../scope';
import type { FunctionContext } from './function';
import { Function as AutogradFunction } from './function';
import { grad } from './grad';
import { noGrad } from './modes';

/** Options of `gradcheck()` and `gradgradcheck()`, with PyTorch's defaults. */
export interface GradcheckOptions {
  /** Step of the finite differences. Default 1e-6. */
  eps?: number;
  /** Absolute tolerance. Default 1e-5. */
  atol?: number;
  /** Relative tolerance. Default 1e-3. */
  rtol?: number;
  /** With false, return false instead of throwing. Default true. */
  raiseException?: boolean;
  /** How far two runs of backward may differ. Default 0. */
  nondetTol?: number;
  /** Check that outputs without a gradient count as zeros. Default true. */
  checkUndefinedGrad?: boolean;
  /** Check that gradients have the dtypes of their inputs. Default false. */
  checkGradDtypes?: boolean;
}

type Checked = (...inputs: Tensor[]) => Tensor | readonly Tensor[];
type Settings = Required<Omit<GradcheckOptions, 'raiseException'>>;

const CODE = 'ERR_TORCHBIND_GRADCHECK';
const OPTIONS = ['eps', 'atol', 'rtol', 'raiseException', 'nondetTol', 'checkUndefinedGrad', 'checkGradDtypes'];

/**
 * Compares the gradients that `backward` computes with finite differences (PyTorch's `torch.autograd.gradcheck`). The
 * defaults are made for float64 inputs.
 *
 * @param fn of tensors, gives a tensor or an array of them; the same for the same inputs
 * @param inputs those that require a gradient are checked. They are changed for the while, and put back.
 * @returns true when they agree
 * @throws {TorchBindError} `ERR_TORCHBIND_GRADCHECK` with both Jacobians, shape (numel of input, numel of output)
 */
export const gradcheck = takes(
  3,
  function gradcheck(fn: Checked, inputs: readonly Tensor[] | Tensor, options: GradcheckOptions = {}): boolean {
    checkOptions(options, OPTIONS, 'gradcheck()');
    checkFunction(fn, 'gradcheck(): fn');
    const { raiseException = true, ...rest } = options;
    const settings: Settings = {
      eps: 1e-6,
      atol: 1e-5,
      rtol: 1e-3,
      nondetTol: 0,
      checkUndefinedGrad: true,
      checkGradDtypes: false,
      ...rest,
    };
    for (const name of ['eps', 'atol', 'rtol', 'nondetTol'] as const)
      checkArgument(typeof settings[name] === 'number', `a number for '${name}'`, settings[name], 'gradcheck()');
    try {
      tidy(() => check(fn, list(inputs), settings));
      return true;
    } catch (error) {
      if (!raiseException && error instanceof TorchBindError && error.code === CODE) return false;
      throw error;
    }
  },
);

/**
 * `gradcheck` of the gradients themselves (PyTorch's `torch.autograd.gradgradcheck`), for the inputs and for the
 * gradients of the outputs.
 *
 * @param gradOutputs gradients of the outputs; default: random ones
 */
export const gradgradcheck = takes(
  4,
  function gradgradcheck(
    fn: Checked,
    inputs: readonly Tensor[] | Tensor,
    gradOutputs?: readonly Tensor[] | Tensor | null,
    options: GradcheckOptions = {},
  ): boolean {
    checkOptions(options, OPTIONS, 'gradgradcheck()');
    checkFunction(fn, 'gradgradcheck(): fn');
    return tidy(() => {
      const given = list(inputs);
      const gradients = gradOutputs == null ? differentiable(fn(...given)).map(randomGradient) : list(gradOutputs);
      const wanted = given.map((input) => input.requiresGrad);
      const gradientsOf = (...args: Tensor[]): Tensor[] => {
        const [first, last] = [args.slice(0, given.length), args.slice(given.length)];
        const inputsOfInterest = first.filter((_, i) => wanted[i]!);
        const results = grad(differentiable(fn(...first)), inputsOfInterest, {
          gradOutputs: last,
          createGraph: true,
          allowUnused: true,
        });
        return results.filter((result) => result !== null);
      };
      return gradcheck(gradientsOf, [...given, ...gradients], options);
    });
  },
);

function check(fn: Checked, inputs: readonly Tensor[], settings: Settings): void {
  checkInputs(inputs);
  const checked = inputs.filter((input) => input.requiresGrad);
  const required = list(fn(...inputs)).map((output) => output.requiresGrad);
  const numerical = checked.map((input) => numericalJacobians(fn, inputs, input, settings.eps));
  if (!required.includes(true)) {
    const zero = numerical.flat().every((jacobian) => Number(jacobian.ne(0).sum().item()) === 0);
    if (!zero) fail('Numerical gradient for function expected to be zero.');
    return;
  }
  // The inputs were changed in place and put back: the graph is made after that.
  const outputs = differentiable(fn(...inputs));
  const numericalOf = (input: number, output: number): Tensor =>
    numerical[input]!.filter((_, i) => required[i]!)[output]!;
  outputs.forEach((output, o) => {
    const analytical = analyticalJacobians(output, checked, settings);
    analytical.forEach((jacobian, i) => compare(jacobian, numericalOf(i, o), o, i, settings));
  });
  checkScaling(outputs, checked);
  if (settings.checkUndefinedGrad) checkUndefined(fn, inputs, checked);
}

function checkInputs(inputs: readonly Tensor[]): void {
  if (!inputs.some((input) => input.requiresGrad)) {
    invalid(
      'gradcheck() expects at least one input tensor to require gradient, but none of them has requiresGrad set.',
    );
  }
  inputs.forEach((input, i) => {
    if (!input.requiresGrad) return;
    if (input.dtype.startsWith('complex'))
      throw new TorchBindError(
        `gradcheck(): input ${i} is ${input.dtype}. Check the real and the imaginary part as two real inputs.`,
        'ERR_TORCHBIND_UNSUPPORTED',
      );
    const strides = input.strides();
    if (input.shape.some((size, d) => size > 1 && strides[d] === 0))
      invalid(`gradcheck(): input ${i} has a dimension with stride 0. Call contiguous() on it first.`);
  });
}

/** For each output, its derivative for one input by central differences: (numel of input, numel of output). */
function numericalJacobians(fn: Checked, inputs: readonly Tensor[], input: Tensor, eps: number): Tensor[] {
  const rows = elementsOf(input.detach()).map((element) => {
    const original = element.clone();
    const outputs = (value: Tensor): Tensor[] => {
      noGrad(() => element.copy_(value));
      return list(fn(...inputs)).map((output) => output.detach().clone());
    };
    try {
      const below = outputs(original.sub(eps));
      const above = outputs(original.add(eps));
      return above.map((output, i) =>
        output
          .sub(below[i]!)
          .div(2 * eps)
          .reshape([-1]),
      );
    } finally {
      noGrad(() => element.copy_(original));
    }
  });
  const count = rows[0]?.length ?? 0;
  return Array.from({ length: count }, (_, i) => stack(rows.map((row) => row[i]!)));
}

/** Views of the single elements, in row-major order. */
function elementsOf(tensor: Tensor): Tensor[] {
  let views = [tensor];
  for (const size of tensor.shape) {
    views = views.flatMap((view) => Array.from({ length: size }, (_, i) => view.select(0, i)));
  }
  return views;
}

/** For each input, the derivative of one output for it by backward: (numel of input, numel of output). */
function analyticalJacobians(output: Tensor, inputs: readonly Tensor[], settings: Settings): Tensor[] {
  const [first, second] = [jacobiansOf(output, inputs, settings), jacobiansOf(output, inputs, settings)];
  first.forEach((jacobian, i) => {
    if (jacobian.numel() === 0) return;
    const difference = Number(jacobian.sub(second[i]!).abs().max().item());
    if (difference > settings.nondetTol)
      fail(
        'Backward is not reentrant, i.e., running backward with same input and grad_output multiple times gives ' +
          `different values. The tolerance for nondeterminism was ${settings.nondetTol}.`,
      );
  });
  return first;
}

function jacobiansOf(output: Tensor, inputs: readonly Tensor[], settings: Settings): Tensor[] {
  const columns: Tensor[][] = inputs.map(() => []);
  for (let j = 0; j < output.numel(); j++) {
    const direction = zeros([output.numel()], { dtype: output.dtype, device: output.device });
    direction.select(0, j).fill_(1);
    const gradients = grad(output, inputs, {
      gradOutputs: [direction.view(output.shape)],
      retainGraph: true,
      allowUnused: true,
    });
    gradients.forEach((gradient, i) => columns[i]!.push(columnOf(gradient, inputs[i]!, settings)));
  }
  return columns.map((column, i) =>
    column.length === 0
      ? zeros([inputs[i]!.numel(), 0], { dtype: inputs[i]!.dtype, device: inputs[i]!.device })
      : stack(column, { dim: 1 }),
  );
}

function columnOf(gradient: Tensor | null, input: Tensor, settings: Settings): Tensor {
  if (gradient === null) return zerosLike(input).detach().reshape([-1]);
  if (settings.checkGradDtypes && gradient.dtype !== input.dtype) fail('Gradient has dtype mismatch.');
  if (String(gradient.shape) !== String(input.shape)) fail('Analytical gradient has incorrect size.');
  return gradient.detach().reshape([-1]);
}

function compare(analytical: Tensor, numerical: Tensor, output: number, input: number, settings: Settings): void {
  const { rtol, atol } = settings;
  const expected = numerical.to({ dtype: 'float64', device: analytical.device });
  if (analytical.to('float64').allclose(expected, { rtol, atol })) return;
  fail(
    `Jacobian mismatch for output ${output} with respect to input ${input},\n` +
      `numerical:${numerical.toString()}\nanalytical:${analytical.toString()}\n`,
  );
}

/** Backward must be linear in the gradients that come in: zeros give zeros. */
function checkScaling(outputs: readonly Tensor[], inputs: readonly Tensor[]): void {
  const gradients = grad(outputs, inputs, {
    gradOutputs: outputs.map((output) => zerosLike(output)),
    allowUnused: true,
    retainGraph: true,
  });
  gradients.forEach((gradient, i) => {
    if (gradient === null) return;
    if (!isZero(gradient)) fail('backward not multiplied by grad_output');
    if (gradient.dtype !== inputs[i]!.dtype) fail('grad is incorrect type');
    if (gradient.device !== inputs[i]!.device) fail('grad is incorrect device');
  });
}

/** Passes its input on, and no gradient back. */
class UndefinedGrad extends AutogradFunction {
  static forward(_ctx: FunctionContext, x: Tensor): Tensor {
    return x.clone();
  }

  static backward(): null {
    return null;
  }
}

/** With no gradient for all outputs, and for each alone, backward must not fail, nor invent one. */
function checkUndefined(fn: Checked, inputs: readonly Tensor[], checked: readonly Tensor[]): void {
  const count = differentiable(fn(...inputs)).length;
  const withoutGradient = (which: (index: number) => boolean): void => {
    const outputs = differentiable(fn(...inputs)).map((output, i) => (which(i) ? UndefinedGrad.apply(output) : output));
    const gradients = gradientsForZeros(outputs, checked);
    if (!gradients.every((gradient) => gradient === null || isZero(gradient)))
      fail('Expected all input grads to be undefined or zero when all output grads are undefined or zero.');
  };
  withoutGradient(() => true);
  for (let i = 0; count > 1 && i < count; i++) withoutGradient((index) => index === i);
}

function gradientsForZeros(outputs: readonly Tensor[], inputs: readonly Tensor[]): (Tensor | null)[] {
  try {
    return grad(outputs, inputs, { gradOutputs: outputs.map((output) => zerosLike(output)), allowUnused: true });
  } catch (error) {
    throw new TorchBindError('Expected backward function to handle undefined output grads.', CODE, { cause: error });
  }
}

function isZero(tensor: Tensor): boolean {
  return Number(tensor.ne(0).sum().item()) === 0;
}

function randomGradient(output: Tensor): Tensor {
  const dtype = output.dtype.startsWith('complex') ? 'float64' : output.dtype;
  return rand(output.shape, { dtype, device: output.device }).mul(2).sub(1).requiresGrad_();
}

function differentiable(outputs: Tensor | readonly Tensor[]): Tensor[] {
  return list(outputs).filter((output) => output.requiresGrad);
}

function list(tensors: Tensor | readonly Tensor[]): readonly Tensor[] {
  if (tensors instanceof Tensor) return [tensors];
  checkIterable(tensors, 'a tensor or an array of tensors', 'gradcheck()');
  return Array.from(tensors, (tensor) => {
    unwrap(tensor, 'gradcheck()');
    return tensor;
  });
}

function fail(message: string): never {
  throw new TorchBindError(message, CODE);
}

function invalid(message: string): never {
  throw new TorchBindError(message, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
