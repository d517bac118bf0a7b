import { TorchBindError } from '../errors';
import { Tensor } from './core';
import { overloadSet } from './dispatch';
import { getDefaultDtype } from './dtype-info';
import { formatValues } from './print-values';
import { tidy } from './scope';

/** What JavaScript shows of a tensor where it wants text. */
export interface TensorPrinting {
  /** Prints like PyTorch: values, and dtype, device and graph where they are not the default. */
  toString(): string;
  /**
   * Its print in `${x}`. JavaScript's operators (`x * 2`, `total += loss`, `x > 0`) and `Number(x)` throw an error that says
   * what to write: NaN, a string and false would pass unseen.
   */
  [Symbol.toPrimitive](hint: string): string;
}

/** Unlike methods, these are also called on what is not a tensor: `console.log(Tensor.prototype)`. */
export const printing = {
  toString(this: unknown): string {
    if (!(this instanceof Tensor)) return Object.prototype.toString.call(this);
    return this.isDisposed ? 'Tensor(disposed)' : format(this);
  },
  [Symbol.toPrimitive](this: unknown, hint: string): string {
    if (hint === 'string') return printing.toString.call(this);
    throw new TorchBindError(
      "A tensor is not a number: JavaScript's operators do not compute with it. Write x.mul(2), x.add(y), x.gt(0); item() is the value of one element, and `${x}` its print.",
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  },
  [Symbol.for('nodejs.util.inspect.custom')](this: unknown): string {
    return printing.toString.call(this);
  },
};

const INDENT = ' '.repeat('tensor('.length);

/** A tensor as PyTorch prints it, whatever its kind. It never fails: a program that logs a tensor continues. */
export function format(tensor: Tensor): string {
  return tidy(() => {
    if (isNested(tensor)) return formatNested(tensor);
    const facts = factsOf(tensor);
    try {
      return `tensor(${[contents(tensor), ...facts].join(', ')})`;
    } catch (error) {
      if (!(error instanceof TorchBindError)) throw error;
      return `tensor(${['...', size(tensor), ...facts].join(', ')})`;
    }
  });
}

/** What is said after the values, where it is not the default. */
function factsOf(tensor: Tensor): string[] {
  const { dtype, device, layout, gradFn } = tensor;
  const facts: string[] = [];
  if (!isPlain(tensor)) facts.push(`dtype=${dtype}`);
  if (device !== 'cpu') facts.push(`device='${device}'`);
  if (layout !== 'strided') facts.push(`layout=${layout}`);
  if (gradFn !== null) facts.push(`gradFn=<${gradFn}>`);
  else if (tensor.requiresGrad) facts.push('requiresGrad=true');
  return facts;
}

/** Whether the values tell the dtype: it is the default one of their kind. Where there are none, float32 goes unsaid. */
function isPlain({ dtype, layout, shape }: Tensor): boolean {
  const isDouble = getDefaultDtype() === 'float64';
  if (dtype === getDefaultDtype()) return true;
  if (shape.includes(0) && layout === 'strided') return false;
  return dtype === 'int64' || dtype === 'bool' || dtype === (isDouble ? 'complex128' : 'complex64');
}

function contents(tensor: Tensor): string {
  if (tensor.isMeta) return `..., ${size(tensor)}`;
  if (tensor.isQuantized) return quantized(tensor.detach());
  if (tensor.layout === 'sparse_coo') return sparse(tensor.detach(), ['indices', 'values']);
  if (tensor.layout === 'sparse_csr' || tensor.layout === 'sparse_bsr') {
    return sparse(tensor.detach(), ['crowIndices', 'colIndices', 'values']);
  }
  if (tensor.layout === 'sparse_csc' || tensor.layout === 'sparse_bsc') {
    return sparse(tensor.detach(), ['ccolIndices', 'rowIndices', 'values']);
  }
  if (tensor.layout === 'strided' && tensor.shape.length === 1) return formatValues(tensor, INDENT.length);
  return dense(tensor.layout === 'strided' ? tensor : tensor.toDense(), INDENT.length);
}

function dense(tensor: Tensor, indent: number): string {
  return formatValues(tensor, indent) + (tensor.shape.includes(0) ? `, ${size(tensor)}` : '');
}

type Part = 'indices' | 'crowIndices' | 'ccolIndices' | 'colIndices' | 'rowIndices' | 'values';

function sparse(tensor: Tensor, names: readonly Part[]): string {
  // indices() and values() are of coalesced tensors only.
  const read = (name: Part): Tensor =>
    tensor.isSparse ? (overloadSet(`aten::_${name}`).call1(tensor) as Tensor) : tensor[name]();
  const parts = names.map((name) => {
    const prefix = `${name}=tensor(`;
    return `${prefix}${dense(read(name), INDENT.length + prefix.length)})`;
  });
  const nnz = overloadSet('aten::_nnz').call1(tensor) as number;
  return [...parts, `${size(tensor)}, nnz=${nnz}`].join(`,\n${INDENT}`);
}

/** The values that the numbers stand for, and how they stand for them. */
function quantized(tensor: Tensor): string {
  const values = `${formatValues(tensor.dequantize(), INDENT.length)}, ${size(tensor)}`;
  const perTensor = tensor.qscheme() === 0;
  return perTensor
    ? `${values}, scale=${tensor.qScale()}, zeroPoint=${tensor.qZeroPoint()}`
    : `${values}, scale=${format(tensor.qPerChannelScales())}, zeroPoint=${format(tensor.qPerChannelZeroPoints())}, axis=${tensor.qPerChannelAxis()}`;
}

function size(tensor: Tensor): string {
  return `size=[${tensor.shape.join(', ')}]`;
}

/** Nested tensors have no sizes; nothing else tells them from others. */
function isNested(tensor: Tensor): boolean {
  try {
    return tensor.shape === undefined;
  } catch {
    return true;
  }
}

function formatNested(tensor: Tensor): string {
  const parts = tensor.detach().unbind(0) as Tensor[];
  return `nested_tensor([\n  ${parts.map((part) => format(part).replaceAll('\n', '\n  ')).join(',\n  ')}\n])`;
}
