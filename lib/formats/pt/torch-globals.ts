import { describe } from '../../errors';
import {
  type GlobalEntry,
  GlobalError,
  type GlobalTable,
  PickleConstant,
  PickleGlobal,
  pythonGlobals,
  UnsupportedGlobal,
} from '../../pickle/globals';
import { Cost, type Spend } from '../../pickle/budget';
import { Device, DTypeValue, Float, Size, TorchConstant, Tuple } from '../../pickle/types';
import { byteDType, type FileDType, fileDTypes, isDifferentiable, quantizedDTypes, valueOnlyDTypes } from './dtypes';
import { numpyGlobals, type NumpyOptions } from './numpy-globals';
import {
  checkGeometry,
  checkShape,
  nonNegative,
  type Quantizer,
  sizes,
  type SparseLayout,
  sparseLayouts,
  StorageRef,
  StorageView,
  type TensorBuilder,
  type TensorPlace,
  type TensorSpec,
} from './tensor-spec';

export type { TensorBuilder } from './tensor-spec';

/** A storage class, as `torch.FloatStorage`: it stands in persistent ids only. */
export class StorageClass extends PickleGlobal {
  constructor(
    name: string,
    readonly dtype: FileDType,
    readonly untyped: boolean,
  ) {
    super(name);
  }
}

/**
 * The allow-list of `torch.load(weights_only=True)` in 2.13, NumPy's arrays and scalars, and what torchbind makes of
 * each entry. What is not here is refused by name.
 *
 * @param options.exact gives NumPy scalars as such
 * @param options.inert gives NumPy values that PyTorch has no type for as inert data
 */
export function torchGlobals(builder: TensorBuilder, options: NumpyOptions = {}): GlobalTable {
  const table = new Map<string, GlobalEntry>([...pythonGlobals, ...constants]);
  const functions = [...rebuildFunctions(builder), ...numpyGlobals(builder, options)];
  for (const global of [...storageClasses, size, device, getLayout, ...tensorClasses, ...functions])
    table.set(global.name, global);
  for (const [what, names] of unsupported)
    for (const name of names) table.set(`torch.${name}`, new UnsupportedGlobal(what));
  return table;
}

const storageNames = [...fileDTypes.values(), ...quantizedDTypes.values()].filter(
  (dtype) => dtype.storageClass !== null,
);

const storageClasses = [
  ...storageNames.flatMap((dtype) => [
    new StorageClass(`torch.${dtype.storageClass!}`, dtype, false),
    new StorageClass(`torch.cuda.${dtype.storageClass!}`, dtype, false),
  ]),
  new StorageClass('torch.storage.UntypedStorage', byteDType, true),
];

const quantizationSchemes = [
  'per_tensor_affine',
  'per_tensor_symmetric',
  'per_channel_affine',
  'per_channel_symmetric',
];

const constants: [string, GlobalEntry][] = [
  ...[...fileDTypes.keys(), ...valueOnlyDTypes].map((name): [string, unknown] => [name, new DTypeValue(name)]),
  ...quantizationSchemes.map((name): [string, unknown] => [name, new TorchConstant('qscheme', name)]),
].map(([name, value]) => [`torch.${name}`, new PickleConstant(value)]);

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
  ['a nested tensor', ['_utils._rebuild_nested_tensor']],
  ['a tensor subclass', ['_utils._rebuild_wrapper_subclass']],
  [
    'a tensor of a device without storages',
    ['_utils._rebuild_device_tensor_from_numpy', '_utils._rebuild_device_tensor_from_cpu_tensor'],
  ],
  ['a tensor quantized to less than a byte', ['QUInt4x2Storage', 'QUInt2x4Storage']],
  ['a tensor quantized with floating-point zero points', ['per_channel_affine_float_qparams']],
  ['a storage object of its own', ['storage.TypedStorage']],
  ['a tensor class of PyTorch before 0.4', legacyTensors],
];

const size = new PickleGlobal('torch.Size', (args, spend) => {
  const [dims] = args;
  if (args.length !== 1 || !Array.isArray(dims)) throw new GlobalError('expected one tuple of ints');
  spend(Cost.array + 2 * dims.length * Cost.item);
  return Size.from(sizes(dims, 'sizes'));
});

/** libtorch keeps it in eight bits. */
const maxDeviceIndex = 127;

const device = new PickleGlobal('torch.device', ([type, index = null, ...rest]) => {
  const match = typeof type === 'string' ? /^([a-z]+[a-z0-9]*?)(?::(\d{1,3}))?$/.exec(type) : null;
  if (match === null || rest.length > 0) throw new GlobalError('expected a device such as cpu or cuda:0');
  if (index !== null && match[2] !== undefined) throw new GlobalError('expected one device index');
  const number = match[2] === undefined ? (index as number | null) : Number(match[2]);
  if (number !== null && !(Number.isInteger(number) && number >= 0 && number <= maxDeviceIndex))
    throw new GlobalError(`expected a device index from 0 to ${maxDeviceIndex}`);
  return new Device(match[1]!, number);
});

/** By their full names, as PyTorch 2.13 has them. */
const layouts: ReadonlyMap<unknown, TorchConstant> = new Map(
  ['strided', 'jagged', '_mkldnn', ...sparseLayouts].map((name) => [
    `torch.${name}`,
    new TorchConstant('layout', name),
  ]),
);

const getLayout = new PickleGlobal('torch.serialization._get_layout', ([name, ...rest]) => {
  const layout = layouts.get(name);
  if (layout === undefined || rest.length > 0) throw new GlobalError(`expected a layout, got ${describe(name)}`);
  return layout;
});

/** Classes that occur as an argument of `_rebuild_from_type_v2`, and as nothing else. */
const tensorClasses = [new PickleGlobal('torch.Tensor'), new PickleGlobal('torch.nn.parameter.Parameter')];

function rebuildFunctions(builder: TensorBuilder): PickleGlobal[] {
  const rebuild = (spec: TensorSpec, spend: Spend): unknown => {
    spend(Cost.tensor + spec.shape.length * Cost.dimension);
    if (quantizedDTypes.has(spec.dtype.name)) throw new GlobalError('a quantized tensor without scale and zero point');
    if (spec.conj && !spec.dtype.name.startsWith('complex'))
      throw new GlobalError(`a conjugated ${spec.dtype.name} tensor`);
    if (spec.requiresGrad && !isDifferentiable(spec.dtype.name))
      throw new GlobalError(`a ${spec.dtype.name} tensor that requires gradients`);
    return builder.tensor(spec);
  };
  const parameter = (args: Tuple, count: number, spend: Spend): unknown => {
    spend(Cost.object);
    const [data, requiresGrad] = args;
    if (args.length !== count || !builder.isTensor(data)) throw new GlobalError('expected a tensor');
    return builder.parameter(data, bool(requiresGrad));
  };
  const functions = [
    new PickleGlobal('torch._utils._rebuild_tensor', (args, spend) => rebuild(tensorArguments(args, 4, 4), spend)),
    new PickleGlobal('torch._utils._rebuild_tensor_v2', (args, spend) => rebuild(tensorArguments(args, 6, 7), spend)),
    new PickleGlobal('torch._utils._rebuild_tensor_v3', (args, spend) => rebuild(tensorV3Arguments(args), spend)),
    new PickleGlobal('torch._utils._rebuild_parameter', (args, spend) => parameter(args, 3, spend)),
    // Python attributes of a tensor or parameter mean nothing here, and are dropped.
    new PickleGlobal('torch._utils._rebuild_parameter_with_state', (args, spend) => parameter(args, 4, spend)),
    new PickleGlobal('torch._utils._rebuild_qtensor', (args, spend) => rebuildQuantized(builder, args, spend)),
    new PickleGlobal('torch._utils._rebuild_sparse_tensor', (args, spend) => rebuildSparse(builder, args, spend)),
    new PickleGlobal('torch._utils._rebuild_meta_tensor_no_storage', (args, spend) =>
      rebuildMeta(builder, args, spend),
    ),
  ];
  return [...functions, fromType(functions)];
}

/** `_rebuild_from_type_v2(function, class, arguments, state)`: a tensor with Python attributes. */
function fromType(functions: PickleGlobal[]): PickleGlobal {
  return new PickleGlobal(
    'torch._tensor._rebuild_from_type_v2',
    ([callee, type, args, _state, ...rest], spend, keys) => {
      const known = functions.find((candidate) => candidate === callee);
      if (known?.call === undefined || !(args instanceof Tuple) || rest.length > 0)
        throw new GlobalError('expected a rebuild function and its arguments');
      if (!tensorClasses.some((candidate) => candidate === type))
        throw new GlobalError('expected the class torch.Tensor or Parameter');
      return known.call(args, spend, keys);
    },
  );
}

/** (storage, offset, size, stride[, requires_grad, backward_hooks[, metadata]]) */
function tensorArguments(args: Tuple, fewest: number, most: number): TensorSpec {
  if (args.length < fewest || args.length > most)
    throw new GlobalError(`expected ${fewest} to ${most} arguments, got ${args.length}`);
  const [storage, offset, shape, strides, requiresGrad = false, _hooks, metadata = null] = args;
  return flagged(checkedPlace(storage, undefined, offset, shape, strides), requiresGrad, metadata);
}

/** A tensor's place within its storage; the offset comes out as one in the whole storage. */
function checkedPlace(
  storage: unknown,
  type: FileDType | undefined,
  offset: unknown,
  shape: unknown,
  strides: unknown,
): TensorPlace {
  const view = storage instanceof StorageRef ? new StorageView(storage, 0, storage.nbytes) : storage;
  if (!(view instanceof StorageView)) throw new GlobalError('expected a storage');
  const dtype = type ?? view.storage.dtype;
  const [sizeList, strideList] = [sizes(shape, 'sizes'), sizes(strides, 'strides')];
  const inView = nonNegative(offset, 'offset');
  checkGeometry(dtype, view.nbytes, inView, sizeList, strideList);
  if (view.start % dtype.itemSize !== 0) throw new GlobalError('the view of a storage begins within an element');
  return {
    storage: view.storage,
    dtype,
    offset: inView + view.start / dtype.itemSize,
    shape: sizeList,
    strides: strideList,
  };
}

/** The same with a dtype before the metadata, over a storage of bytes. */
function tensorV3Arguments(args: Tuple): TensorSpec {
  if (args.length < 7 || args.length > 8) throw new GlobalError(`expected 7 or 8 arguments, got ${args.length}`);
  const value = args[6];
  if (!(value instanceof DTypeValue)) throw new GlobalError('expected a dtype');
  const dtype = fileDTypes.get(value.name);
  if (dtype === undefined) throw new GlobalError(`tensors of dtype ${value.name} are not supported`);
  const [storage, offset, shape, strides, requiresGrad, _hooks, _dtype, metadata = null] = args;
  return flagged(checkedPlace(storage, dtype, offset, shape, strides), requiresGrad, metadata);
}

/** Written out, as an object that is spread together takes twice the memory. */
function flagged(place: TensorPlace, requiresGrad: unknown, metadata: unknown): TensorSpec {
  const { storage, dtype, offset, shape, strides } = place;
  const { conj, neg } = flags(metadata);
  return { storage, dtype, offset, shape, strides, requiresGrad: bool(requiresGrad), conj, neg };
}

/** (storage, offset, size, stride, (scheme, scale, zero point[, axis]), requires_grad, backward_hooks) */
function rebuildQuantized(builder: TensorBuilder, args: Tuple, spend: Spend): unknown {
  const [storage, offset, shape, strides, parameters, requiresGrad] = args;
  if (args.length !== 7 || !(parameters instanceof Tuple)) throw new GlobalError('expected 7 arguments');
  const place = checkedPlace(storage, undefined, offset, shape, strides);
  if (!quantizedDTypes.has(place.dtype.name)) throw new GlobalError(`a quantized tensor over ${place.dtype.name}`);
  if (bool(requiresGrad)) throw new GlobalError('a quantized tensor that requires gradients');
  const spec = { ...place, requiresGrad: false, conj: false, neg: false };
  // A copy, of as many elements as the strides make of the storage.
  spend(Cost.tensor + spec.shape.length * Cost.dimension + bytesOf(spec));
  return builder.quantized(spec, quantizer(builder, parameters, place.shape.length));
}

/** Of a tensor's elements, which a storage may hold fewer of where a stride is 0. */
function bytesOf({ shape, dtype }: Pick<TensorSpec, 'shape' | 'dtype'>): number {
  return shape.reduce((product, size) => product * size, dtype.itemSize);
}

function quantizer(builder: TensorBuilder, parameters: Tuple, dimensions: number): Quantizer {
  const [scheme, scale, zeroPoint, axis] = parameters;
  const name = scheme instanceof TorchConstant ? scheme.name : '';
  if (name.startsWith('per_tensor') && parameters.length === 3) {
    const value = scale instanceof Float ? scale.value : scale;
    if (typeof value !== 'number' || !(value > 0) || !Number.isInteger(zeroPoint))
      throw new GlobalError('expected a scale and a zero point');
    return { scale: value, zeroPoint: zeroPoint as number };
  }
  if (!name.startsWith('per_channel') || parameters.length !== 4) throw new GlobalError('expected a quantizer');
  if (!builder.isTensor(scale) || !builder.isTensor(zeroPoint))
    throw new GlobalError('expected tensors of scales and zero points');
  if (nonNegative(axis, 'axis') >= dimensions)
    throw new GlobalError(`axis ${String(axis)} of ${dimensions} dimensions`);
  return { scales: scale, zeroPoints: zeroPoint, axis: axis as number };
}

/** (layout, (indices, values, size[, is_coalesced])) or (layout, (compressed, plain, values, size)) */
function rebuildSparse(builder: TensorBuilder, [layout, data, ...rest]: Tuple, spend: Spend): unknown {
  spend(2 * Cost.tensor);
  const name = layout instanceof TorchConstant ? layout.name : '';
  if (!sparseLayouts.includes(name as SparseLayout) || !(data instanceof Tuple) || rest.length > 0)
    throw new GlobalError('expected a sparse layout and its parts');
  const isCoo = name === 'sparse_coo';
  const parts = isCoo ? 2 : 3;
  if (data.length < parts + 1 || data.length > 4) throw new GlobalError('expected the parts of the layout');
  const tensors = data.slice(0, parts);
  if (!tensors.every((part) => builder.isTensor(part))) throw new GlobalError('expected tensors');
  const shape = sizes(data[parts], 'sizes');
  checkShape(byteDType, shape);
  const coalesced = isCoo && data.length === 4 ? bool(data[3]) : undefined;
  return builder.sparse({
    layout: name as SparseLayout,
    indices: tensors.slice(0, -1),
    values: tensors.at(-1),
    shape,
    coalesced,
  });
}

/** (dtype, size, stride, requires_grad) */
function rebuildMeta(builder: TensorBuilder, args: Tuple, spend: Spend): unknown {
  const [type, shape, strides, requiresGrad] = args;
  const dtype = type instanceof DTypeValue ? fileDTypes.get(type.name) : undefined;
  if (args.length !== 4 || dtype === undefined) throw new GlobalError('expected a dtype, sizes, strides and a bool');
  const [sizeList, strideList] = [sizes(shape, 'sizes'), sizes(strides, 'strides')];
  // No storage limits it, but that of which a view could be.
  checkGeometry(dtype, Number.MAX_SAFE_INTEGER, 0, sizeList, strideList);
  if (bool(requiresGrad) && !isDifferentiable(dtype.name))
    throw new GlobalError(`a ${dtype.name} tensor that requires gradients`);
  spend(Cost.tensor + sizeList.length * Cost.dimension);
  return builder.meta({ dtype, shape: sizeList, strides: strideList, requiresGrad: bool(requiresGrad) });
}

/**
 * What a persistent id in a zip container stands for.
 *
 * @param sizeOf bytes in a record, or undefined if the record does not exist
 */
export function storageFromId(id: unknown, sizeOf: (key: string) => number | undefined): StorageRef {
  const { type, key, numel } = parseStorageId(id, 5);
  const nbytes = sizeOf(key);
  if (nbytes === undefined) throw new GlobalError(`the file has no record 'data/${key.slice(0, 100)}'`);
  const claimed = claimedBytes(type, numel);
  if (claimed !== BigInt(nbytes))
    throw new GlobalError(`storage '${key}' claims ${claimed} bytes and its record has ${nbytes}`);
  return new StorageRef(key, type.dtype, type.untyped, nbytes);
}

/** A persistent id, ('storage', class, key, location, number of elements), with what may follow in `rest`. */
export function parseStorageId(
  id: unknown,
  length: number,
): { type: StorageClass; key: string; numel: unknown; rest: unknown[] } {
  if (!(id instanceof Tuple) || id.length !== length || id[0] !== 'storage')
    throw new GlobalError("expected ('storage', class, key, location, size)");
  const [, type, key, location, numel, ...rest] = id;
  if (!(type instanceof StorageClass)) throw new GlobalError('expected a storage class');
  if (typeof key !== 'string' || typeof location !== 'string') throw new GlobalError('expected a key and a location');
  return { type, key, numel, rest };
}

/** Bytes of `numel` elements of a storage. */
export function claimedBytes(type: StorageClass, numel: unknown): bigint {
  return BigInt(nonNegative(numel, 'size')) * BigInt(type.dtype.itemSize);
}

function bool(value: unknown): boolean {
  if (typeof value !== 'boolean') throw new GlobalError('requires_grad is not a bool');
  return value;
}

const noFlags = { conj: false, neg: false };

/** Tensor metadata is a dict of the lazy bits that are set. */
function flags(metadata: unknown): { conj: boolean; neg: boolean } {
  if (metadata === null) return noFlags;
  if (!(metadata instanceof Map)) throw new GlobalError('tensor metadata is not a dict');
  for (const key of metadata.keys()) {
    if (key !== 'conj' && key !== 'neg') throw new GlobalError(`unknown tensor metadata ${String(key)}`);
  }
  return { conj: metadata.get('conj') === true, neg: metadata.get('neg') === true };
}
