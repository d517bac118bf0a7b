import { takes, TorchBindError } from '../errors';
import { native } from '../native/native';
import { checkDType, dtypeCode, dtypeFromCode, itemSize } from './dtype';
import type { DType } from './dtype';

/** Numerical properties of a floating-point type (PyTorch's `torch.finfo`). */
export interface FloatInfo {
  bits: number;
  /** The difference between 1 and the next larger number. */
  eps: number;
  max: number;
  min: number;
  /** The smallest positive normal number; `tiny` is its other name. */
  smallestNormal: number;
  tiny: number;
  /** Decimal digits that are exact, as 10 to the minus digits. */
  resolution: number;
  dtype: DType;
}

/** The range of an integer type (PyTorch's `torch.iinfo`). Those of 64 bits are bigints. */
export interface IntegerInfo {
  bits: number;
  min: number | bigint;
  max: number | bigint;
  dtype: DType;
}

/** eps, max and smallestNormal of each type: the exponents are powers of two. */
const FLOATS: Partial<Record<DType, [eps: number, max: number, smallestNormal: number, resolution: number]>> = {
  float16: [2 ** -10, 65504, 2 ** -14, 1e-3],
  bfloat16: [2 ** -7, (2 - 2 ** -7) * 2 ** 127, 2 ** -126, 1e-2],
  float32: [2 ** -23, (2 - 2 ** -23) * 2 ** 127, 2 ** -126, 1e-6],
  float64: [2 ** -52, Number.MAX_VALUE, 2 ** -1022, 1e-15],
  float8_e5m2: [2 ** -2, 57344, 2 ** -14, 1],
  float8_e4m3fn: [2 ** -3, 448, 2 ** -6, 1],
  float8_e5m2fnuz: [2 ** -3, 57344, 2 ** -15, 1],
  float8_e4m3fnuz: [2 ** -3, 240, 2 ** -7, 1],
  float8_e8m0fnu: [1, 2 ** 127, 2 ** -127, 1],
};

const PARTS: Partial<Record<DType, DType>> = { complex32: 'float16', complex64: 'float32', complex128: 'float64' };

/**
 * Numerical properties of a floating-point type; of its parts for a complex one (PyTorch's `torch.finfo`).
 *
 * @param dtype default: the default dtype
 */
export const finfo = takes(1, function finfo(dtype: DType = getDefaultDtype()): FloatInfo {
  const checked = checkDType(dtype, 'finfo()');
  const type = PARTS[checked] ?? checked;
  const facts = FLOATS[type];
  if (facts === undefined) throw refuse('finfo', type, 'a floating-point dtype', 'iinfo');
  const [eps, max, smallestNormal, resolution] = facts;
  const min = type === 'float8_e8m0fnu' ? smallestNormal : -max; // that type has no sign
  return { bits: 8 * itemSize(type), eps, max, min, smallestNormal, tiny: smallestNormal, resolution, dtype: type };
});

/** The range of an integer type (PyTorch's `torch.iinfo`). */
export const iinfo = takes(1, function iinfo(dtype: DType): IntegerInfo {
  const type = checkDType(dtype, 'iinfo()');
  const match = /^(u?)int(8|16|32|64)$/.exec(type);
  if (match === null) throw refuse('iinfo', type, 'an integer dtype', 'finfo');
  const bits = Number(match[2]);
  const [min, max] = match[1] === 'u' ? [0n, 2n ** BigInt(bits) - 1n] : signedRange(BigInt(bits));
  return bits === 64 ? { bits, min, max, dtype: type } : { bits, min: Number(min), max: Number(max), dtype: type };
});

function signedRange(bits: bigint): [bigint, bigint] {
  return [-(2n ** (bits - 1n)), 2n ** (bits - 1n) - 1n];
}

function refuse(where: string, dtype: DType, expected: string, other: string): TorchBindError {
  return new TorchBindError(
    `${where}(): expected ${expected}, got '${dtype}'. For other types there is ${other}().`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

/** The dtype of tensors made without one (PyTorch's `torch.get_default_dtype`): float32 unless changed. */
export const getDefaultDtype = takes(0, function getDefaultDtype(): DType {
  return dtypeFromCode(native().defaultDtype());
});

/** Sets the floating-point dtype of tensors made without one, for the whole process (PyTorch's `torch.set_default_dtype`). */
export const setDefaultDtype = takes(1, function setDefaultDtype(dtype: DType): void {
  native().setDefaultDtype(dtypeCode[checkDType(dtype, 'setDefaultDtype()')]);
});

/** The complex type whose parts are of a floating-point type. */
export function complexTypeOf(dtype: DType): DType {
  if (dtype === 'float64') return 'complex128';
  return dtype === 'float16' ? 'complex32' : 'complex64';
}
