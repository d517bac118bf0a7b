import { type Reduced, Reduction, Unwritable } from '../../pickle/writer';
import { Device, DTypeValue, Float, GlobalName, NumpyScalar, Size, TorchConstant, Tuple } from '../../pickle/types';
import { native } from '../../native/native';
import { type AtenOperators, ops } from '../../tensor/ops';
import { noGrad } from '../../tensor/autograd';
import { Tensor, unwrap } from '../../tensor/tensor';
import { fileDTypes, quantizedDTypes } from './dtypes';
import { numpyCode } from './numpy-globals';
import { arrayModule } from './tensor-marks';
import { sparseLayouts } from './tensor-spec';

/** NumPy's dtype of a code such as `f4`. */
export function numpyDType(code: string): Reduction {
  // The version of the state, the byte order, four things that plain types lack, and flags.
  const order = code.endsWith('1') ? '|' : '<';
  const state = Tuple.of<unknown>(3, order, null, null, null, -1, -1, 0);
  return new Reduction(new GlobalName('numpy', 'dtype'), Tuple.of<unknown>(code, false, true), state);
}

/** How `torch.save` writes values other than tensors: torch.Size, dtypes, devices and NumPy's scalars. */
export function reduceTorchValue(value: object): Reduction | GlobalName | undefined {
  if (value instanceof Size) return new Reduction(new GlobalName('torch', 'Size'), Tuple.of(Tuple.from(value)));
  if (value instanceof DTypeValue) return new GlobalName('torch', value.name);
  if (value instanceof TorchConstant)
    return value.kind === 'layout' ? reduceLayout(value.name) : new GlobalName('torch', value.name);
  if (value instanceof Device) {
    const args = value.index === null ? Tuple.of(value.type) : Tuple.of<unknown>(value.type, value.index);
    return new Reduction(new GlobalName('torch', 'device'), args);
  }
  if (value instanceof NumpyScalar)
    return new Reduction(
      new GlobalName(value.module, 'scalar'),
      Tuple.of<unknown>(numpyDType(value.code), value.bytes),
    );
  return undefined;
}

/** Takes a tensor that was made for the file only, to be freed when that is written. */
type Keep = (part: Tensor) => Tensor;

/**
 * How a tensor is written that is not a view of a storage: sparse tensors by their parts, NumPy arrays by their bytes, meta
 * tensors by their shape alone; undefined for all others.
 */
export function reduceCompound(tensor: Tensor, keep: Keep): Reduced | undefined {
  const { layout } = tensor;
  if (layout !== 'strided') {
    if ((sparseLayouts as readonly string[]).includes(layout)) return reduceSparse(tensor, keep);
    return new Unwritable(`a tensor of layout ${layout}; save it as to_dense()`);
  }
  if (tensor.device.startsWith('meta')) return reduceMeta(tensor);
  if (!fileDTypes.has(tensor.dtype) && !quantizedDTypes.has(tensor.dtype))
    return new Unwritable(`a ${tensor.dtype} tensor, which is not supported in files`);
  const module = arrayModule(tensor);
  return module === undefined ? undefined : reduceArray(tensor, module);
}

function reduceSparse(tensor: Tensor, keep: Keep): Reduction {
  const part = (name: keyof AtenOperators): Tensor => keep(noGrad(() => ops.aten[name](tensor)) as Tensor);
  const size = Size.from(tensor.shape);
  const parts = ((): Tuple => {
    switch (tensor.layout) {
      case 'sparse_coo':
        return Tuple.of<unknown>(part('_indices'), part('_values'), size, ops.aten.is_coalesced(tensor));
      case 'sparse_csr':
      case 'sparse_bsr':
        return Tuple.of<unknown>(part('crow_indices'), part('col_indices'), part('values'), size);
      default:
        return Tuple.of<unknown>(part('ccol_indices'), part('row_indices'), part('values'), size);
    }
  })();
  const args = Tuple.of<unknown>(reduceLayout(tensor.layout), parts);
  return new Reduction(new GlobalName('torch._utils', '_rebuild_sparse_tensor'), args);
}

function reduceLayout(name: string): Reduction {
  return new Reduction(new GlobalName('torch.serialization', '_get_layout'), Tuple.of<unknown>(`torch.${name}`));
}

function reduceMeta(tensor: Tensor): Reduction {
  const args = Tuple.of<unknown>(
    new DTypeValue(tensor.dtype),
    Tuple.from(tensor.shape),
    Tuple.from(tensor.strides()),
    tensor.requiresGrad,
  );
  return new Reduction(new GlobalName('torch._utils', '_rebuild_meta_tensor_no_storage'), args);
}

/** As NumPy's own `__reduce__` has it, in rows. */
function reduceArray(tensor: Tensor, module: string): Reduced | undefined {
  const code = numpyCode(tensor.dtype);
  if (code === undefined) return undefined;
  const bytes = new Uint8Array(native().toArrayBuffer(unwrap(tensor, 'save')));
  const state = Tuple.of<unknown>(1, Tuple.from(tensor.shape), numpyDType(code), false, bytes);
  const args = Tuple.of<unknown>(new GlobalName('numpy', 'ndarray'), Tuple.of(0), Uint8Array.of(0x62));
  return new Reduction(new GlobalName(module, '_reconstruct'), args, state);
}

/** By the number that libtorch has for each. */
const schemes = ['per_tensor_affine', 'per_channel_affine', 'per_tensor_symmetric', 'per_channel_symmetric'];

/** What goes with the integers of a quantized tensor: (scheme, scale, zero point) or (scheme, scales, zero points, axis). */
export function quantizerOf(tensor: Tensor, keep: Keep): Tuple {
  const ask = (name: keyof AtenOperators): unknown => ops.aten[name](tensor);
  const scheme = schemes[ask('qscheme') as number]!;
  const name = new GlobalName('torch', scheme);
  if (scheme.startsWith('per_tensor'))
    return Tuple.of<unknown>(name, new Float(ask('q_scale') as number), ask('q_zero_point'));
  const [scales, zeroPoints] = (['q_per_channel_scales', 'q_per_channel_zero_points'] as const).map((part) =>
    keep(ask(part) as Tensor),
  );
  return Tuple.of<unknown>(name, scales, zeroPoints, ask('q_per_channel_axis'));
}
