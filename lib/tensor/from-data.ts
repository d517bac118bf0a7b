import { checkIterable, describe, takes, TorchBindError } from '../errors';
import { native } from '../native/native';
import { Tensor, wrap } from './core';
import { checkDType, dtypeCode, dtypeOfTypedArray, itemSize } from './dtype';
import type { DType } from './dtype';
import { getDefaultDtype } from './dtype-info';
import type { DeviceName, Scalar } from './schema-types';
import { checkTensorOptions, finish, TENSOR_OPTIONS } from './tensor-options';
import type { TensorOptions } from './tensor-options';
import { fromNested, viewOf } from './values';
import type { TensorData } from './values';

/**
 * A new tensor with a copy of the values (PyTorch's `torch.tensor`).
 *
 * Without a dtype: booleans give bool, integral numbers and bigints int64, other numbers float32, as literals do in
 * Python; a typed array gives the dtype of its elements. With `requiresGrad` numbers are float32, integral ones too.
 */
export const tensor = takes(2, function tensor(data: TensorData | Tensor, options: TensorOptions = {}): Tensor {
  checkTensorOptions(options, TENSOR_OPTIONS, 'tensor()');
  if (data instanceof Tensor) {
    return finish(data.detach().to({ ...conversion(options), copy: true }), options);
  }
  const view = viewOf(data);
  if (view !== undefined) {
    const made = fromTypedArray(view);
    return finish(settle(made, options.dtype ?? made.dtype, options.device), options);
  }
  const made = fromNested(data, options.dtype, 'tensor()');
  const dtype = options.dtype ?? (options.requiresGrad === true ? differentiable(made.dtype) : made.dtype);
  return finish(settle(made, dtype, options.device), options);
});

/** Integers have no gradient: `tensor(2.0, { requiresGrad: true })`, whose point JavaScript does not see, means a float. */
function differentiable(dtype: DType): DType {
  return dtype === 'int64' ? getDefaultDtype() : dtype;
}

/** The tensor in the dtype and on the device that were asked for; what it was before is freed. */
function settle(made: Tensor, dtype: DType, device: DeviceName | undefined): Tensor {
  const result = made.to({ dtype, ...(device === undefined ? {} : { device }) });
  if (result !== made) made.dispose();
  return result;
}

/** A tensor of the values, which is the argument itself where that is a tensor already (PyTorch's `torch.as_tensor`). */
export const asTensor = takes(2, function asTensor(data: TensorData | Tensor, options: TensorOptions = {}): Tensor {
  checkTensorOptions(options, TENSOR_OPTIONS, 'asTensor()');
  return data instanceof Tensor ? data.to(conversion(options)) : tensor(data, options);
});

/** A tensor without dimensions; of the default dtype where none is given (PyTorch's `torch.scalar_tensor`). */
export const scalarTensor = takes(2, function scalarTensor(value: Scalar, options: TensorOptions = {}): Tensor {
  return tensor(value, { dtype: getDefaultDtype(), ...options });
});

function conversion(options: TensorOptions): { dtype?: DType; device?: DeviceName } {
  return {
    ...(options.dtype === undefined ? {} : { dtype: options.dtype }),
    ...(options.device === undefined ? {} : { device: options.device }),
  };
}

/**
 * A tensor with a copy of a typed array's elements, or of a buffer's bytes (PyTorch's `torch.frombuffer`, which does not copy).
 *
 * @param shape default: one dimension
 * @param dtype default: that of the elements; give float16 or bfloat16 for a Uint16Array of their bits
 */
export const fromTypedArray = takes(
  3,
  function fromTypedArray(data: ArrayBufferView | ArrayBufferLike, shape?: readonly number[], dtype?: DType): Tensor {
    const view = viewOf(data);
    if (view === undefined) {
      throw new TorchBindError(
        `fromTypedArray(): expected a typed array or an ArrayBuffer, got ${describe(data)}.`,
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
    const type = dtype === undefined ? dtypeOfTypedArray(view) : checkDType(dtype, 'fromTypedArray()');
    if (shape !== undefined) checkIterable(shape, 'an array of sizes', 'fromTypedArray()');
    const sizes = shape ?? [view.byteLength / itemSize(type)];
    return wrap(native().fromTypedArray(view, [...sizes], dtypeCode[type]));
  },
);
