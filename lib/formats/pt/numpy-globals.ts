/** NumPy's arrays, scalars and dtypes in a pickle. */
import { GlobalError, PickleGlobal, Unfinished } from '../../pickle/globals';
import { Cost, type Spend } from '../../pickle/budget';
import { ComplexValue, NumpyScalar, Tuple } from '../../pickle/types';
import type { DType } from '../../tensor/dtype';
import { type FileDType, fileDTypes } from './dtypes';
import { checkShape, sizes, type TensorBuilder } from './tensor-spec';

/** NumPy's code of each type that PyTorch has. */
const codes: readonly [string, DType][] = [
  ['f8', 'float64'],
  ['f4', 'float32'],
  ['f2', 'float16'],
  ['i8', 'int64'],
  ['i4', 'int32'],
  ['i2', 'int16'],
  ['i1', 'int8'],
  ['u8', 'uint64'],
  ['u4', 'uint32'],
  ['u2', 'uint16'],
  ['u1', 'uint8'],
  ['b1', 'bool'],
  ['c8', 'complex64'],
  ['c16', 'complex128'],
];

/** `numpy.dtype`, completed by BUILD with its byte order. */
class NumpyDType extends Unfinished {
  bigEndian = false;

  constructor(readonly code: string) {
    super('a NumPy dtype');
  }

  /** (3, byte order, None, None, None, -1, -1, flags): more is in it for structured types only. */
  build(state: unknown): this {
    const [, order, subarray, names, fields] = state instanceof Tuple ? state : [];
    if (order !== '<' && order !== '>' && order !== '|' && order !== '=')
      throw new GlobalError('expected a byte order');
    if (subarray !== null || names !== null || fields !== null)
      throw new GlobalError('structured NumPy types are not supported');
    this.bigEndian = order === '>';
    return this;
  }

  /** @throws GlobalError for types that PyTorch does not have: text, dates, objects, long doubles */
  get dtype(): FileDType {
    const name = codes.find(([code]) => code === this.code)?.[1];
    if (name === undefined)
      throw new GlobalError(`NumPy values of type '${this.code}' are not supported; PyTorch has no such type`);
    return fileDTypes.get(name)!;
  }

  /** Bytes in little-endian order, which is that of every machine that libtorch runs on. */
  ordered(bytes: Uint8Array): Uint8Array {
    const unit = this.dtype.swapSize;
    if (!this.bigEndian || unit === 1) return bytes;
    const copy = Buffer.from(bytes);
    if (unit === 2) return copy.swap16();
    return unit === 4 ? copy.swap32() : copy.swap64();
  }
}

/** What `_reconstruct` made: an array that BUILD gives its shape, type and bytes. */
class NumpyArray extends Unfinished {
  constructor(
    private readonly builder: TensorBuilder,
    private readonly module: string,
    private readonly spend: Spend,
  ) {
    super('a NumPy array');
  }

  /** (version, shape, dtype, is Fortran order, bytes) */
  build(state: unknown): unknown {
    if (!(state instanceof Tuple) || state.length !== 5) throw new GlobalError('expected a state of five');
    const [, shape, type, fortran, bytes] = state;
    if (typeof fortran !== 'boolean') throw new GlobalError('the order is not a bool');
    return array(this.builder, { shape, type, fortran, bytes, module: this.module }, this.spend);
  }
}

interface ArrayParts {
  shape: unknown;
  type: unknown;
  fortran: boolean;
  bytes: unknown;
  module: string;
}

function array(builder: TensorBuilder, { shape, type, fortran, bytes, module }: ArrayParts, spend: Spend): unknown {
  if (!(type instanceof NumpyDType)) throw new GlobalError('expected a dtype');
  const { dtype } = type;
  const sizeList = sizes(shape, 'sizes');
  const needed = checkShape(dtype, sizeList) * BigInt(dtype.itemSize);
  if (!(bytes instanceof Uint8Array)) throw new GlobalError('expected the bytes of the elements');
  // Its tensor, and a copy of the bytes in order.
  spend(Cost.tensor + bytes.length * (type.bigEndian ? 2 : 1));
  if (needed !== BigInt(bytes.length))
    throw new GlobalError(`shape [${sizeList.join(', ')}] of ${dtype.name} needs ${needed} bytes, got ${bytes.length}`);
  return builder.array({ dtype, shape: sizeList, bytes: type.ordered(bytes), fortran, module });
}

/** @param exact gives scalars as `NumpyScalar` and not as the number that they hold */
export function numpyGlobals(builder: TensorBuilder, exact: boolean): PickleGlobal[] {
  const arrayClass = new PickleGlobal('numpy.ndarray');
  const ofModule = (core: string): PickleGlobal[] => [
    new PickleGlobal(`${core}.multiarray._reconstruct`, ([type, shape, code, ...rest], spend) => {
      if (type !== arrayClass) throw new GlobalError('expected the class numpy.ndarray');
      if (!(shape instanceof Tuple) || code === undefined || rest.length > 0)
        throw new GlobalError('expected 3 arguments');
      return new NumpyArray(builder, `${core}.multiarray`, spend);
    }),
    new PickleGlobal(`${core}.multiarray.scalar`, ([type, bytes, ...rest]) => {
      if (!(type instanceof NumpyDType) || rest.length > 0) throw new GlobalError('expected a dtype and bytes');
      const value = scalar(type, bytes);
      return exact ? new NumpyScalar(type.code, value, type.ordered(bytes as Uint8Array), `${core}.multiarray`) : value;
    }),
    // How protocol 5 has arrays that lie in one piece.
    new PickleGlobal(`${core}.numeric._frombuffer`, ([bytes, type, shape, order, ...rest], spend) => {
      if ((order !== 'C' && order !== 'F') || rest.length > 0) throw new GlobalError('expected 4 arguments');
      return array(builder, { shape, type, fortran: order === 'F', bytes, module: `${core}.multiarray` }, spend);
    }),
  ];
  const dtype = new PickleGlobal('numpy.dtype', ([code]) => {
    if (typeof code !== 'string' || code.length > 16) throw new GlobalError('expected the code of a type');
    return new NumpyDType(code);
  });
  return [arrayClass, dtype, ...ofModule('numpy.core'), ...ofModule('numpy._core')];
}

function scalar(type: NumpyDType, bytes: unknown): number | bigint | boolean | ComplexValue {
  const { dtype } = type;
  if (!(bytes instanceof Uint8Array) || bytes.length !== dtype.itemSize)
    throw new GlobalError(`a ${dtype.name} needs ${dtype.itemSize} bytes`);
  const ordered = type.ordered(bytes);
  const view = new DataView(ordered.buffer, ordered.byteOffset, ordered.byteLength);
  const narrow = (value: bigint): number | bigint => (Number.isSafeInteger(Number(value)) ? Number(value) : value);
  switch (dtype.name) {
    case 'float64':
      return view.getFloat64(0, true);
    case 'float32':
      return view.getFloat32(0, true);
    case 'float16':
      return halfFloat(view.getUint16(0, true));
    case 'int64':
      return narrow(view.getBigInt64(0, true));
    case 'uint64':
      return narrow(view.getBigUint64(0, true));
    case 'int32':
      return view.getInt32(0, true);
    case 'uint32':
      return view.getUint32(0, true);
    case 'int16':
      return view.getInt16(0, true);
    case 'uint16':
      return view.getUint16(0, true);
    case 'int8':
      return view.getInt8(0);
    case 'uint8':
      return view.getUint8(0);
    case 'bool':
      return view.getUint8(0) !== 0;
    case 'complex64':
      return new ComplexValue(view.getFloat32(0, true), view.getFloat32(4, true));
    default:
      return new ComplexValue(view.getFloat64(0, true), view.getFloat64(8, true));
  }
}

/** The number that the bits of a float16 stand for. */
function halfFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** NumPy's code of a dtype; undefined where NumPy has no such type. */
export function numpyCode(dtype: DType): string | undefined {
  return codes.find(([, name]) => name === dtype)?.[0];
}
