/** NumPy's arrays, scalars and dtypes in a pickle. */
import { describe } from '../../errors';
import { GlobalError, PickleGlobal, RefusedName, Unfinished } from '../../pickle/globals';
import { Cost, type Spend } from '../../pickle/budget';
import { ComplexValue, GlobalName, InertObject, NumpyScalar, Tuple } from '../../pickle/types';
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

export interface NumpyOptions {
  /** Gives scalars as `NumpyScalar` and not as the number that they hold. */
  exact?: boolean | undefined;
  /** Gives what PyTorch has no type for (text, dates, objects, records) as inert data. */
  inert?: boolean | 'all' | undefined;
}

/** `numpy.dtype`, completed by BUILD with its byte order. */
class NumpyDType extends Unfinished {
  bigEndian = false;
  private state: unknown = null;
  private data: InertObject | undefined;

  constructor(
    readonly code: string,
    private readonly args: Tuple,
  ) {
    super('a NumPy dtype');
  }

  /** (3, byte order, None, None, None, -1, -1, flags): more is in it for records, dates and text only. */
  build(state: unknown): this {
    const [, order] = state instanceof Tuple ? state : [];
    if (order !== '<' && order !== '>' && order !== '|' && order !== '=')
      throw new GlobalError(`expected a byte order, got ${describe(order)}`);
    this.bigEndian = order === '>';
    this.state = state;
    return this;
  }

  override asData(): InertObject {
    if (this.data === undefined) {
      this.data = new InertObject('numpy', 'dtype', this.args, true);
      this.data.state = this.state;
    }
    return this.data;
  }

  /** Whether PyTorch has such a type: neither text, dates, objects, records nor long doubles. */
  get isKnown(): boolean {
    return this.found !== undefined;
  }

  /** @throws GlobalError for types that PyTorch does not have */
  get dtype(): FileDType {
    if (this.found !== undefined) return this.found;
    throw new GlobalError(
      `expected a type that PyTorch has, got NumPy values of type '${this.code}'; ` +
        "load(path, { unknown: 'inert' }) gives them as data",
    );
  }

  private get found(): FileDType | undefined {
    const [, , subarray = null, names = null, fields = null] = this.state instanceof Tuple ? this.state : [];
    if (subarray !== null || names !== null || fields !== null) return undefined;
    const name = codes.find(([code]) => code === this.code)?.[1];
    return name === undefined ? undefined : fileDTypes.get(name);
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
    private readonly args: Tuple,
    private readonly inert: boolean,
    private readonly spend: Spend,
  ) {
    super('a NumPy array');
  }

  /** (version, shape, dtype, is Fortran order, bytes) */
  build(state: unknown): unknown {
    if (!(state instanceof Tuple) || state.length !== 5) throw new GlobalError('expected a state of five');
    const [, shape, type, fortran, bytes] = state;
    if (this.inert && type instanceof NumpyDType && !type.isKnown) {
      const data = inertCall(this.module, '_reconstruct', this.args, this.spend);
      data.state = state;
      return data;
    }
    if (typeof fortran !== 'boolean') throw new GlobalError('the order is not a bool');
    return array(this.builder, { shape, type, fortran, bytes, module: this.module }, this.spend);
  }
}

/** As what the pickle calls, and with what. */
function inertCall(module: string, name: string, args: Tuple, spend: Spend): InertObject {
  spend(2 * Cost.object + Cost.array + Cost.map);
  return new InertObject(module, name, args, true);
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

export function numpyGlobals(builder: TensorBuilder, { exact = false, inert = false }: NumpyOptions): PickleGlobal[] {
  const arrayClass = new PickleGlobal('numpy.ndarray');
  const isInert = inert !== false;
  const isData = (type: unknown): boolean => isInert && type instanceof NumpyDType && !type.isKnown;
  const ofModule = (core: string): PickleGlobal[] => {
    const module = `${core}.multiarray`;
    return [
      new PickleGlobal(`${module}._reconstruct`, (args, spend) => {
        const [type, shape, code, ...rest] = args;
        if (!(shape instanceof Tuple) || code === undefined || rest.length > 0)
          throw new GlobalError(`expected 3 arguments, got ${args.length}`);
        if (type === arrayClass) return new NumpyArray(builder, module, args, isInert, spend);
        // A subclass of arrays, as numpy.matrix.
        if (isInert && type instanceof GlobalName) return inertCall(module, '_reconstruct', args, spend);
        throw type instanceof RefusedName ? type.refusal : new GlobalError('expected the class numpy.ndarray');
      }),
      new PickleGlobal(`${module}.scalar`, (args, spend) => {
        const [type, bytes, ...rest] = args;
        if (!(type instanceof NumpyDType) || rest.length > 0) throw new GlobalError('expected a dtype and bytes');
        if (isData(type)) return inertCall(module, 'scalar', args, spend);
        const value = scalar(type, bytes);
        return exact ? new NumpyScalar(type.code, value, type.ordered(bytes as Uint8Array), module) : value;
      }),
      // How protocol 5 has arrays that lie in one piece.
      new PickleGlobal(`${core}.numeric._frombuffer`, (args, spend) => {
        const [bytes, type, shape, order, ...rest] = args;
        if ((order !== 'C' && order !== 'F') || rest.length > 0)
          throw new GlobalError(`expected bytes, a dtype, a shape and an order, got ${args.length} arguments`);
        if (isData(type)) return inertCall(`${core}.numeric`, '_frombuffer', args, spend);
        return array(builder, { shape, type, fortran: order === 'F', bytes, module }, spend);
      }),
    ];
  };
  const dtype = new PickleGlobal('numpy.dtype', (args) => {
    const [code] = args;
    if (typeof code !== 'string' || code.length > 16) throw new GlobalError('expected the code of a type');
    return new NumpyDType(code, args);
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
