import { describe, TorchBindError } from '../errors';
import type { Handle, Token } from '../native/binding';
import { native } from '../native/native';
import { dtypeFromCode } from './dtype';
import type { DType } from './dtype';
import { place, takeOwnFlag } from './ownership';
import type { Scope } from './ownership';
import type { Layout } from './schema-types';
import type { DeviceName } from './schema-types';

/** Structured clone refuses symbols, and its error quotes them. Without one it would copy the fields, and leave the memory behind. */
const NOT_CLONED = Symbol('a tensor is not copied to workers: post share(tensor) and receive() it there. This');

/**
 * PyTorch's `torch.Tensor`. Every tensor method of PyTorch is here under its name in camelCase, in-place ones with
 * their trailing underscore; arguments with defaults may come in a trailing options object.
 *
 * A tensor is a handle to memory that C++ owns. It is freed by `dispose()`, by the end of the `tidy()` scope that it
 * was made in, or, outside scopes, by the garbage collector.
 *
 * The class declares what the native handle alone answers. tensor.ts attaches all else, so that this file imports none of
 * the modules that compute with tensors.
 */
export class Tensor {
  /** @internal The first field, so that `structuredClone` and `postMessage` come to it first. */
  readonly notCloned = NOT_CLONED;
  /** @internal Slot and generation in the native table; 0 when disposed. */
  handle: Handle;
  /** @internal Keeps the native tensor alive outside scopes. */
  token: Token | undefined = undefined;
  /** @internal The scope that will free it, or null. */
  scope: Scope | null = null;

  /** @internal Tensors are made by functions such as `tensor()`, `zeros()` and by operators. */
  constructor(handle: Handle) {
    if (typeof handle !== 'number') {
      throw new TorchBindError(
        'Make tensors with tensor(), zeros(), randn() and the like.',
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
    this.handle = handle;
  }

  /** Sizes of the dimensions; [] for a single value. */
  get shape(): number[] {
    return native().shape(unwrap(this, 'shape'));
  }

  get dtype(): DType {
    return dtypeFromCode(native().dtype(unwrap(this, 'dtype')));
  }

  /** Where the data is: `cpu`, `cuda:0`, ... */
  get device(): DeviceName {
    return native().device(unwrap(this, 'device')) as DeviceName;
  }

  get layout(): Layout {
    return native().layout(unwrap(this, 'layout')) as Layout;
  }

  /** Number of dimensions. */
  get ndim(): number {
    return native().shape(unwrap(this, 'ndim')).length;
  }

  /** Number of dimensions (PyTorch's `Tensor.dim`). */
  dim(): number {
    return native().shape(unwrap(this, 'dim')).length;
  }

  /** Sizes of all dimensions, or of one (negative counts from the end). */
  size(): number[];
  size(dim: number): number;
  size(dim?: number): number | number[] {
    const shape = native().shape(unwrap(this, 'size'));
    if (dim === undefined) return shape;
    const size = Number.isInteger(dim) ? shape.at(dim) : undefined;
    if (size === undefined) {
      throw new TorchBindError(
        `size(): dimension ${describe(dim)} is out of range for shape [${shape.join(', ')}].`,
        'ERR_TORCHBIND_INDEX',
      );
    }
    return size;
  }

  /** Number of elements. */
  numel(): number {
    return native()
      .shape(unwrap(this, 'numel'))
      .reduce((product, size) => product * size, 1);
  }

  /** Steps in elements between neighbours along each dimension (PyTorch's `Tensor.stride`). */
  strides(): number[] {
    return native().strides(unwrap(this, 'strides'));
  }

  /** Where in its storage the first element is, in elements. */
  storageOffset(): number {
    return native().storageOffset(unwrap(this, 'storageOffset'));
  }

  /** Whether the elements lie in memory one after the other in row-major order. */
  isContiguous(): boolean {
    const shape = native().shape(unwrap(this, 'isContiguous'));
    const strides = this.strides();
    let expected = 1;
    for (let i = shape.length - 1; i >= 0; i--) {
      if (shape[i] === 0) return true;
      if (shape[i] !== 1 && strides[i] !== expected) return false;
      expected *= shape[i]!;
    }
    return true;
  }

  /** Whether operations on it are recorded for `backward()`. Only leaves may be changed. */
  get requiresGrad(): boolean {
    return native().requiresGrad(unwrap(this, 'requiresGrad'));
  }

  set requiresGrad(value: boolean) {
    native().setRequiresGrad(unwrap(this, 'requiresGrad'), value);
  }

  /** Sets `requiresGrad` and returns the tensor (PyTorch's `requires_grad_`). */
  requiresGrad_(value?: boolean): this {
    native().setRequiresGrad(unwrap(this, 'requiresGrad_'), value === undefined || value);
    return this;
  }

  /** Whether it was made by the user and not by a recorded operation. */
  get isLeaf(): boolean {
    return native().isLeaf(unwrap(this, 'isLeaf'));
  }

  /** Name of the autograd node that made it, or null. */
  get gradFn(): string | null {
    return native().gradFnName(unwrap(this, 'gradFn'));
  }

  /** The gradient that `backward()` accumulated, or null. Assign null to clear it. */
  get grad(): Tensor | null {
    return wrapOptional(native().getGrad(unwrap(this, 'grad')));
  }

  set grad(value: Tensor | null) {
    native().setGrad(unwrap(this, 'grad'), value === null ? null : unwrap(value, 'grad'));
  }

  /** Lets a tensor that is not a leaf have its `grad` after `backward()` (PyTorch's `Tensor.retain_grad`). */
  retainGrad(): void {
    native().retainGrad(unwrap(this, 'retainGrad'));
  }

  /** Whether `retainGrad()` was called on a tensor that is not a leaf. */
  get retainsGrad(): boolean {
    return native().retainsGrad(unwrap(this, 'retainsGrad'));
  }

  /** Frees the memory now. Doing so twice does nothing; any other use afterwards is an error. */
  dispose(): void {
    if (this.handle === 0) return;
    native().dispose(this.handle, this.token);
    this.handle = 0;
    this.token = undefined;
    this.scope = null;
  }

  /** For `using`. */
  [Symbol.dispose](): void {
    if (!(this instanceof Tensor)) unwrap(this, 'Symbol.dispose');
    this.dispose();
  }

  /** Whether it was freed, by `dispose()` or by the end of its scope. */
  get isDisposed(): boolean {
    if (!(this instanceof Tensor)) unwrap(this, 'isDisposed');
    return this.handle === 0 || !native().isAlive(this.handle);
  }
}

/** @internal A Tensor for a handle that native code has just made. */
export function wrap(handle: Handle): Tensor {
  const tensor = new Tensor(handle);
  place(tensor, takeOwnFlag());
  return tensor;
}

/** @internal As `wrap`, with null for null. */
export function wrapOptional(handle: Handle | null): Tensor | null {
  return handle === null ? null : wrap(handle);
}

/** @internal As `wrapOptional`, for all that one native call made. */
export function wrapAll(handles: readonly (Handle | null)[]): (Tensor | null)[] {
  const own = takeOwnFlag();
  return handles.map((handle) => {
    if (handle === null) return null;
    const tensor = new Tensor(handle);
    place(tensor, own);
    return tensor;
  });
}

/** @internal The handle of a live tensor, or an error that names `where`. */
export function unwrap(tensor: Tensor, where: string): Handle {
  if (!(tensor instanceof Tensor)) {
    throw new TorchBindError(`${where}: expected a Tensor, got ${describe(tensor)}.`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
  }
  if (tensor.handle === 0) {
    throw new TorchBindError(
      `${where}: the tensor was disposed. Keep it alive with keep(), or return it from tidy().`,
      'ERR_TORCHBIND_DISPOSED',
    );
  }
  return tensor.handle;
}
