import { describe, TorchBindError } from '../../errors';
import type { Handle } from '../../native/binding';
import { native } from '../../native/native';
import { ops } from '../../tensor/ops';
import { dtypeCode, itemSize } from '../../tensor/dtype';
import { tidy } from '../../tensor/scope';
import { Tensor, unwrap, wrap } from '../../tensor/tensor';
import { type SafetensorsDType, safetensorsDTypeOf } from './dtypes';
import { metadataName } from './header';
import { geometryOf } from '../pt/saved-geometry';
import { contiguousStrides } from '../pt/tensor-spec';

/** A tensor that is about to be written, and stays alive until `dispose()`. */
export interface PlannedTensor {
  name: string;
  dtype: SafetensorsDType;
  /** As the file has it. */
  shape: number[];
  nbytes: number;
  handle: Handle;
  /** Where its bytes are in its storage; undefined where they must be packed first. */
  storageOffset: number | undefined;
  /** What it shares with others: the storage, and the bytes [start, end) of it that it spans. */
  span: { storage: number; start: number; end: number; view: string };
}

/** @throws TorchBindError where something is not a tensor, or not one that the format can hold; nothing is kept then */
export function planTensors(tensors: Iterable<[unknown, unknown]>): PlannedTensor[] {
  const planned: PlannedTensor[] = [];
  try {
    for (const [name, tensor] of tensors) planned.push(planTensor(checkName(name), tensor));
    return planned;
  } catch (error) {
    disposePlanned(planned);
    throw error;
  }
}

/** Makes the planned tensors keep the bytes that they hold now, whatever the program writes to them later. */
export function freezePlanned(planned: readonly PlannedTensor[]): void {
  const used = planned.filter(({ nbytes }) => nbytes > 0);
  const owners = new Map(used.map(({ span, handle }) => [span.storage, handle]));
  const made = native().lazyCopies([...owners.values()]);
  const copies = new Map(Array.from(owners.keys(), (storage, i) => [storage, made[i]!]));
  for (const tensor of used) {
    const { handle, span } = tensor;
    const copy = copies.get(span.storage)!;
    if (copy === 0) packPlanned(tensor);
    else tensor.handle = viewLike(handle, copy, dtypeCode[tensor.dtype.torch!]);
    native().dispose(handle);
  }
  for (const copy of made) native().dispose(copy);
}

/** The same view of another storage. */
function viewLike(handle: Handle, storage: Handle, dtype: number): Handle {
  const [offset, shape, strides] = [
    native().storageOffset(handle),
    native().shape(handle),
    native().strides(handle),
  ] as const;
  return native().viewStorage(storage, dtype, offset, shape, strides);
}

/** Replaces a planned tensor by a contiguous copy on the CPU. */
function packPlanned(tensor: PlannedTensor): void {
  const dtype = dtypeCode[tensor.dtype.torch!];
  const shape = native().shape(tensor.handle);
  tidy(() => {
    const view = wrap(viewLike(tensor.handle, tensor.handle, dtype));
    const copy = view.to('cpu').clone({ memoryFormat: 'contiguous_format' });
    tensor.handle = native().viewStorage(copy.handle, dtype, 0, shape, contiguousStrides(shape));
  });
  tensor.storageOffset = 0;
}

export function disposePlanned(planned: readonly PlannedTensor[]): void {
  for (const { handle } of planned) native().dispose(handle);
}

function planTensor(name: string, value: unknown): PlannedTensor {
  if (!(value instanceof Tensor)) {
    throw unwritable(
      name,
      `expected a tensor, got ${describe(value)}; safetensors files hold named tensors and no other values`,
    );
  }
  const handle = unwrap(value, 'saveSafetensors');
  if (native().layout(handle) !== 'strided') throw unwritable(name, `it is ${native().layout(handle)}; use to_dense()`);
  if (native().device(handle).startsWith('meta')) throw unwritable(name, 'it is on the meta device and has no data');
  const dtype = safetensorsDTypeOf.get(value.dtype);
  if (dtype === undefined) throw unwritable(name, `the format has no dtype for ${value.dtype}`);
  if (!isLazy(value)) return planHandle(name, dtype, handle);
  const resolved = value.detach().resolveConj().resolveNeg();
  try {
    return planHandle(name, dtype, unwrap(resolved, 'saveSafetensors'));
  } finally {
    resolved.dispose();
  }
}

function planHandle(name: string, dtype: SafetensorsDType, source: Handle): PlannedTensor {
  const { shape, strides, offset } = geometryOf(source);
  const { id } = native().storageInfo(source);
  const size = itemSize(dtype.torch!);
  const isEmpty = shape.includes(0);
  const last = isEmpty ? 0 : shape.reduce((sum, length, dim) => sum + (length - 1) * strides[dim]!, offset);
  const nbytes = shape.reduce((product, length) => product * length, size);
  return {
    name,
    dtype,
    shape: fileShape(name, shape, dtype),
    nbytes,
    handle: native().viewStorage(source, dtypeCode[dtype.torch!], isEmpty ? 0 : offset, shape, strides),
    storageOffset: isEmpty || isContiguous(shape, strides) ? offset * size : undefined,
    span: {
      storage: id,
      start: isEmpty ? 0 : offset * size,
      end: isEmpty ? 0 : (last + 1) * size,
      view: `${dtype.name} ${offset} ${shape.join()} ${strides.join()}`,
    },
  };
}

function fileShape(name: string, shape: number[], dtype: SafetensorsDType): number[] {
  if (dtype.packed === 1) return shape;
  if (shape.length === 0) throw unwritable(name, `${dtype.name} needs a dimension, in which elements lie in pairs`);
  return [...shape.slice(0, -1), shape.at(-1)! * dtype.packed];
}

function isContiguous(shape: number[], strides: number[]): boolean {
  const expected = contiguousStrides(shape);
  return shape.every((size, dim) => size === 1 || strides[dim] === expected[dim]);
}

/** Whether the elements are conjugates or negatives that were not computed yet. */
function isLazy(tensor: Tensor): boolean {
  const isSet = (flag: 'is_conj' | 'is_neg'): boolean => (ops.aten[flag](tensor) as unknown) === true;
  return isSet('is_neg') || (tensor.dtype.startsWith('complex') && isSet('is_conj'));
}

function checkName(name: unknown): string {
  if (typeof name !== 'string')
    throw new TorchBindError(
      `saveSafetensors(): names must be strings, got ${describe(name)}.`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  if (name === metadataName) throw unwritable(name, 'the format keeps this name for metadata');
  if (name.includes('\0')) throw unwritable(name, 'its name holds a NUL character, at which other readers cut it');
  if (/\p{Surrogate}/u.test(name)) throw unwritable(name, 'its name holds half a surrogate pair');
  return name;
}

function unwritable(name: string, reason: string): TorchBindError {
  return new TorchBindError(
    `saveSafetensors(): tensor ${JSON.stringify(name)} cannot be written: ${reason}.`,
    'ERR_TORCHBIND_UNSUPPORTED_VALUE',
  );
}

/** What to do with tensors that share memory, which the format cannot express. */
export type TiedMode = 'refuse' | 'drop' | 'copy';

/**
 * Applies the mode.
 *
 * @returns the tensors to write, and for each dropped name the name whose tensor it is
 * @throws TorchBindError ERR_TORCHBIND_SAVE that names the tensors where writing would lose that they are one
 */
export function resolveTied(
  planned: PlannedTensor[],
  mode: TiedMode,
): { kept: PlannedTensor[]; dropped: Map<string, string> } {
  const dropped = new Map<string, string>();
  if (mode === 'copy') return { kept: planned, dropped };
  const groups = sharingGroups(planned);
  const refused =
    mode === 'refuse' ? groups : groups.filter((group) => group.some(({ span }) => span.view !== group[0]!.span.view));
  if (refused.length > 0) throw sharingError(refused, mode);
  for (const [first, ...others] of groups) for (const { name } of others) dropped.set(name, first!.name);
  disposePlanned(planned.filter(({ name }) => dropped.has(name)));
  return { kept: planned.filter(({ name }) => !dropped.has(name)), dropped };
}

/** Groups of two and more tensors whose bytes overlap, each in the order of the tensors. */
function sharingGroups(planned: readonly PlannedTensor[]): PlannedTensor[][] {
  const order = new Map(planned.map((tensor, index) => [tensor, index]));
  const sorted = planned
    .filter(({ span }) => span.end > span.start)
    .sort((a, b) => a.span.storage - b.span.storage || a.span.start - b.span.start);
  const groups: PlannedTensor[][] = [];
  let end = 0;
  for (const tensor of sorted) {
    const group = groups.at(-1);
    if (group !== undefined && group[0]!.span.storage === tensor.span.storage && tensor.span.start < end) {
      group.push(tensor);
      end = Math.max(end, tensor.span.end);
    } else {
      groups.push([tensor]);
      end = tensor.span.end;
    }
  }
  return groups.filter((group) => group.length > 1).map((group) => group.sort((a, b) => order.get(a)! - order.get(b)!));
}

function sharingError(groups: PlannedTensor[][], mode: TiedMode): TorchBindError {
  const names = groups.map((group) => group.map(({ name }) => JSON.stringify(name)).join(', ')).join('; ');
  const advice =
    mode === 'refuse'
      ? "tied: 'drop' writes one of each group and notes the others in the metadata, tied: 'copy' writes each by itself"
      : "they are different views of one memory, of which none can stand for the others; tied: 'copy' writes each by itself";
  return new TorchBindError(
    `saveSafetensors(): tensors share memory, which safetensors files cannot express: ${names}. ${advice}.`,
    'ERR_TORCHBIND_SAVE',
  );
}
