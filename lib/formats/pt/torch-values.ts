import { Reduction } from '../../pickle/reductions';
import { Device, DTypeValue, GlobalName, NumpyScalar, Size, Tuple } from '../../pickle/types';

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
