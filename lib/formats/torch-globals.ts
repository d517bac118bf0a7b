import {
  GlobalError,
  type GlobalEntry,
  type GlobalTable,
  PickleConstant,
  PickleGlobal,
  pythonGlobals,
  UnsupportedGlobal,
} from '../pickle/globals';
import { Device, DTypeValue, Size, Tuple } from '../pickle/types';
import { byteDType, type FileDType, fileDTypes, isDifferentiable, valueOnlyDTypes } from './dtypes';
import { checkGeometry, StorageRef, type TensorSpec } from './tensor-spec';

/** Makes the tensors that a pickle describes: real ones, or only notes of them. */
export interface TensorBuilder {
  tensor(spec: TensorSpec): unknown;
  /** Turns what `tensor` made into a parameter. */
  parameter(tensor: unknown, requiresGrad: boolean): unknown;
  isTensor(value: unknown): boolean;
}

/** A storage class, as `torch.FloatStorage`: it stands in persistent ids only. */
class StorageClass extends PickleGlobal {
  constructor(
    name: string,
    readonly dtype: FileDType,
    readonly untyped: boolean,
  ) {
    super(name);
  }
}

/**
 * The allow-list of `torch.load(weights_only=True)` in 2.13, and what torchbind makes of each entry. What is not here
 * is refused by name.
 */
export function torchGlobals(builder: TensorBuilder): GlobalTable {
  const table = new Map<string, GlobalEntry>([...pythonGlobals, ...constants]);
  for (const global of [...storageClasses, size, device, ...tensorClasses, ...rebuildFunctions(builder)])
    table.set(global.name, global);
  for (const [what, names] of unsupported)
    for (const name of names) table.set(`torch.${name}`, new UnsupportedGlobal(what));
  return table;
}

const storageNames = [...fileDTypes.values()].filter((dtype) => dtype.storageClass !== null);

const storageClasses = [
  ...storageNames.flatMap((dtype) => [
    new StorageClass(`torch.${dtype.storageClass!}`, dtype, false),
    new StorageClass(`torch.cuda.${dtype.storageClass!}`, dtype, false),
  ]),
  new StorageClass('torch.storage.UntypedStorage', byteDType, true),
];

const constants: [string, GlobalEntry][] = [...fileDTypes.keys(), ...valueOnlyDTypes].map((name) => [
  `torch.${name}`,
  new PickleConstant(new DTypeValue(name)),
]);

const elementNames = [
  'Double',
  'Float',
  'Half',
  'BFloat16',
  'Long',
  'Int',
  'Short',
  'Char',
  'Byte',
  'Bool',
  'ComplexFloat',
  'ComplexDouble',
];
const legacyTensors = ['', 'cuda.', 'sparse.', 'cuda.sparse.'].flatMap((prefix) =>
  elementNames.map((name) => `${prefix}${name}Tensor`),
);

const unsupported: [string, string[]][] = [
  ['a sparse tensor or layout', ['_utils._rebuild_sparse_tensor', 'serialization._get_layout']],
  ['a nested tensor', ['_utils._rebuild_nested_tensor']],
  ['a tensor on the meta device, which has no data', ['_utils._rebuild_meta_tensor_no_storage']],
  ['a tensor subclass', ['_utils._rebuild_wrapper_subclass']],
  [
    'a tensor of a device without storages',
    ['_utils._rebuild_device_tensor_from_numpy', '_utils._rebuild_device_tensor_from_cpu_tensor'],
  ],
  [
    'a quantized tensor',
    [
      '_utils._rebuild_qtensor',
      ...['QInt8', 'QInt32', 'QUInt8', 'QUInt4x2', 'QUInt2x4'].map((name) => `${name}Storage`),
    ],
  ],
  [
    'a quantization scheme',
    [
      'per_tensor_affine',
      'per_tensor_symmetric',
      'per_channel_affine',
      'per_channel_symmetric',
      'per_channel_affine_float_qparams',
    ],
  ],
  ['a storage object of its own', ['storage.TypedStorage']],
  ['a tensor class of PyTorch before 0.4', legacyTensors],
];

const size = new PickleGlobal('torch.Size', (args) => {
  const [dims] = args;
  if (args.length !== 1) throw new GlobalError('expected one tuple of ints');
  return Size.from(sizes(dims, 'sizes'));
});

const device = new PickleGlobal('torch.device', ([type, index = null, ...rest]) => {
  const match = typeof type === 'string' ? /^([a-z]+[a-z0-9]*?)(?::(\d{1,9}))?$/.exec(type) : null;
  if (match === null || rest.length > 0) throw new GlobalError('expected a device such as cpu or cuda:0');
  if (index !== null && (match[2] !== undefined || !Number.isInteger(index)))
    throw new GlobalError('expected one device index');
  return new Device(match[1]!, match[2] === undefined ? (index as number | null) : Number(match[2]));
});

/** Classes that occur as an argument of `_rebuild_from_type_v2`, and as nothing else. */
const tensorClasses = [new PickleGlobal('torch.Tensor'), new PickleGlobal('torch.nn.parameter.Parameter')];

function rebuildFunctions(builder: TensorBuilder): PickleGlobal[] {
  const rebuild = (spec: TensorSpec): unknown => {
    checkGeometry(spec.dtype, spec.storage.nbytes, spec.offset, spec.shape, spec.strides);
    if (spec.conj && !spec.dtype.name.startsWith('complex'))
      throw new GlobalError(`a conjugated ${spec.dtype.name} tensor`);
    if (spec.requiresGrad && !isDifferentiable(spec.dtype.name))
      throw new GlobalError(`a ${spec.dtype.name} tensor that requires gradients`);
    return builder.tensor(spec);
  };
  const parameter = (args: Tuple, count: number): unknown => {
    const [data, requiresGrad] = args;
    if (args.length !== count || !builder.isTensor(data)) throw new GlobalError('expected a tensor');
    return builder.parameter(data, bool(requiresGrad));
  };
  const functions = [
    new PickleGlobal('torch._utils._rebuild_tensor', (args) => rebuild(tensorArguments(args, 4, 4))),
    new PickleGlobal('torch._utils._rebuild_tensor_v2', (args) => rebuild(tensorArguments(args, 6, 7))),
    new PickleGlobal('torch._utils._rebuild_tensor_v3', (args) => rebuild(tensorV3Arguments(args))),
    new PickleGlobal('torch._utils._rebuild_parameter', (args) => parameter(args, 3)),
    // Python attributes of a tensor or parameter mean nothing here, and are dropped.
    new PickleGlobal('torch._utils._rebuild_parameter_with_state', (args) => parameter(args, 4)),
  ];
  return [...functions, fromType(functions)];
}

/** `_rebuild_from_type_v2(function, class, arguments, state)`: a tensor with Python attributes. */
function fromType(functions: PickleGlobal[]): PickleGlobal {
  return new PickleGlobal('torch._tensor._rebuild_from_type_v2', ([callee, type, args, _state, ...rest]) => {
    const known = functions.find((candidate) => candidate === callee);
    if (known?.call === undefined || !(args instanceof Tuple) || rest.length > 0)
      throw new GlobalError('expected a rebuild function and its arguments');
    if (!tensorClasses.some((candidate) => candidate === type))
      throw new GlobalError('expected the class torch.Tensor or Parameter');
    return known.call(args);
  });
}

/** (storage, offset, size, stride[, requires_grad, backward_hooks[, metadata]]) */
function tensorArguments(args: Tuple, fewest: number, most: number): TensorSpec {
  if (args.length < fewest || args.length > most)
    throw new GlobalError(`expected ${fewest} to ${most} arguments, got ${args.length}`);
  const [storage, offset, shape, strides, requiresGrad = false, _hooks, metadata = null] = args;
  if (!(storage instanceof StorageRef)) throw new GlobalError('expected a storage');
  return {
    storage,
    dtype: storage.dtype,
    offset: nonNegative(offset, 'offset'),
    shape: sizes(shape, 'sizes'),
    strides: sizes(strides, 'strides'),
    requiresGrad: bool(requiresGrad),
    ...flags(metadata),
  };
}

/** The same with a dtype before the metadata, over a storage of bytes. */
function tensorV3Arguments(args: Tuple): TensorSpec {
  if (args.length < 7 || args.length > 8) throw new GlobalError(`expected 7 or 8 arguments, got ${args.length}`);
  const value = args[6];
  if (!(value instanceof DTypeValue)) throw new GlobalError('expected a dtype');
  const dtype = fileDTypes.get(value.name);
  if (dtype === undefined) throw new GlobalError(`tensors of dtype ${value.name} are not supported`);
  const common = Tuple.from([...args.slice(0, 6), ...args.slice(7)]);
  return { ...tensorArguments(common, 6, 7), dtype };
}

/**
 * What a persistent id in a zip container stands for.
 *
 * @param sizeOf bytes in a record, or undefined where there is none
 */
export function storageFromId(id: unknown, sizeOf: (key: string) => number | undefined): StorageRef {
  if (!(id instanceof Tuple) || id.length !== 5 || id[0] !== 'storage')
    throw new GlobalError("expected ('storage', class, key, location, size)");
  const [, type, key, location, numel] = id;
  if (!(type instanceof StorageClass)) throw new GlobalError('expected a storage class');
  if (typeof key !== 'string' || typeof location !== 'string') throw new GlobalError('expected a key and a location');
  const nbytes = sizeOf(key);
  if (nbytes === undefined) throw new GlobalError(`the file has no record 'data/${key.slice(0, 100)}'`);
  const claimed = BigInt(nonNegative(numel, 'size')) * BigInt(type.dtype.itemSize);
  if (claimed !== BigInt(nbytes))
    throw new GlobalError(`storage '${key}' claims ${claimed} bytes and its record has ${nbytes}`);
  return new StorageRef(key, type.dtype, type.untyped, nbytes);
}

function sizes(value: unknown, what: string): number[] {
  if (!Array.isArray(value)) throw new GlobalError(`${what} are not a tuple`);
  return Array.from(value, (item: unknown) => nonNegative(item, what));
}

function nonNegative(value: unknown, what: string): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new GlobalError(`${what}: expected ints from 0 to 2^53 - 1`);
}

function bool(value: unknown): boolean {
  if (typeof value !== 'boolean') throw new GlobalError('requires_grad is not a bool');
  return value;
}

/** Tensor metadata is a dict of the lazy bits that are set. */
function flags(metadata: unknown): { conj: boolean; neg: boolean } {
  if (metadata === null) return { conj: false, neg: false };
  if (!(metadata instanceof Map)) throw new GlobalError('tensor metadata is not a dict');
  for (const key of metadata.keys()) {
    if (key !== 'conj' && key !== 'neg') throw new GlobalError(`unknown tensor metadata ${String(key)}`);
  }
  return { conj: metadata.get('conj') === true, neg: metadata.get('neg') === true };
}
