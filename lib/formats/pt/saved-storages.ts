import type { Handle } from '../../native/binding';
import { native } from '../../native/native';
import { copyStorages, type StorageCopy } from '../../tensor/copy-on-write';
import { ops } from '../../tensor/ops';
import { dtypeCode } from '../../tensor/dtype';
import { Tensor, unwrap } from '../../tensor/tensor';
import { PersistentId, type Reduced, Reduction, Unwritable } from '../../pickle/writer';
import { GlobalName, OrderedDict, Tuple } from '../../pickle/types';
import { byteDType, type FileDType, fileDTypes, quantizedDTypes } from './dtypes';
import { quantizerOf, reduceCompound, reduceTorchValue } from './saved-values';
import { geometryOf, type SavedGeometry } from './saved-geometry';
import { isParameter, storageMark } from './tensor-marks';

/** A storage that is about to be written: the span of its bytes that tensors use. */
export class SavedStorage {
  private start = Infinity;
  private end = 0;
  private itemSize = 1;
  private copy: StorageCopy | undefined;

  constructor(
    readonly key: string,
    /** What the file calls its elements; all tensors over it must agree. */
    readonly dtype: FileDType,
    /** A uint8 tensor over the whole storage. */
    private readonly bytes: Handle,
  ) {}

  /** Where the written span begins in the storage: a multiple of every item size that is used. */
  get offset(): number {
    return this.start === Infinity ? 0 : Math.floor(this.start / this.itemSize) * this.itemSize;
  }

  get size(): number {
    return this.end === 0 ? 0 : this.end - this.offset;
  }

  /** The bytes to write, as they were at `freeze`: `size` of them from `start` on. */
  get source(): { handle: Handle; start: number } {
    if (this.copy === undefined) return { handle: this.bytes, start: this.offset };
    return { handle: this.copy.bytes, start: this.offset - this.copy.base };
  }

  /** Takes the bytes of each as they are now. */
  static freeze(storages: readonly SavedStorage[]): void {
    const used = storages.filter(({ size }) => size > 0);
    const spans = used.map(({ bytes, offset, size }) => ({ handle: bytes, start: offset, end: offset + size }));
    copyStorages(spans).forEach((copy, i) => (used[i]!.copy = copy));
  }

  dispose(): void {
    if (this.copy !== undefined) native().dispose(this.copy.bytes);
    native().dispose(this.bytes);
  }

  include(start: number, end: number, itemSize: number): void {
    this.start = Math.min(this.start, start);
    this.end = Math.max(this.end, end);
    this.itemSize = Math.max(this.itemSize, itemSize);
  }
}

/** A tensor as a view of its storage. */
interface View extends SavedGeometry {
  dtype: FileDType;
  storage: SavedStorage;
}

// One object a name, which the pickle writer then knows again at once.
const placeholder = new GlobalName('torch', 'Tensor');
const rebuildTyped = new GlobalName('torch._utils', '_rebuild_tensor_v2');
const rebuildUntyped = new GlobalName('torch._utils', '_rebuild_tensor_v3');
const untypedStorage = new GlobalName('torch.storage', 'UntypedStorage');
const storageNames = new Map<string | null, GlobalName>(
  [...fileDTypes.values(), ...quantizedDTypes.values()].flatMap(({ storageClass }): [string, GlobalName][] =>
    storageClass === null ? [] : [[storageClass, new GlobalName('torch', storageClass)]],
  ),
);

/**
 * Writes tensors into a pickle as `torch.save` does. What a storage must hold is known only once all tensors were seen,
 * so a pickle is written twice: first with `collect`, then with `reduce`.
 */
export class SavedStorages {
  private readonly byId = new Map<number, SavedStorage>();
  /** How tensors that are not strided bytes are written; made once, as both passes must see the same parts. */
  private readonly compound = new Map<Tensor, Reduced | undefined>();
  private readonly views = new Map<Tensor, View>();
  private readonly quantizers = new Map<Tensor, Tuple>();
  private readonly parts: Tensor[] = [];

  /** In the order of their keys. */
  get all(): SavedStorage[] {
    return [...this.byId.values()];
  }

  /** Notes the bytes that a tensor needs, and gives something to write in its place. */
  collect(value: object): Reduced | undefined {
    if (!(value instanceof Tensor)) return reduceTorchValue(value);
    const compound = this.compoundOf(value);
    if (compound !== undefined) return compound;
    const problem = this.span(this.viewOf(value));
    if (problem !== undefined) return problem;
    // The parts of a quantizer are tensors, to be collected too.
    return isQuantized(value) ? new Reduction(placeholder, this.quantizer(value)) : placeholder;
  }

  /** How a tensor is written, after everything was collected. */
  reduce(value: object): Reduced | undefined {
    if (!(value instanceof Tensor)) return reduceTorchValue(value);
    const compound = this.compoundOf(value);
    if (compound !== undefined) return compound;
    const mark = storageMark(value);
    if (mark !== undefined) return persistentIdOf(this.viewOf(value), mark.untyped);
    if (isQuantized(value)) return this.rebuildQuantized(value);
    const requiresGrad = value.requiresGrad;
    if (!isParameter(value)) return this.rebuild(value, requiresGrad);
    const args = Tuple.of<unknown>(this.rebuild(value, false), requiresGrad, new OrderedDict());
    return new Reduction(new GlobalName('torch._utils', '_rebuild_parameter'), args);
  }

  /** After everything was collected: what is written is what the tensors hold now. */
  freeze(): void {
    SavedStorage.freeze(this.all);
  }

  dispose(): void {
    for (const storage of this.byId.values()) storage.dispose();
    this.byId.clear();
    for (const part of this.parts) part.dispose();
  }

  private compoundOf(tensor: Tensor): Reduced | undefined {
    if (!this.compound.has(tensor)) {
      const reduced = reduceCompound(tensor, (part) => this.keep(part));
      this.compound.set(tensor, reduced);
    }
    return this.compound.get(tensor);
  }

  /** Asked for once: both passes need it. */
  private viewOf(tensor: Tensor): View {
    let view = this.views.get(tensor);
    if (view === undefined) {
      const handle = unwrap(tensor, 'save');
      const dtype = fileDTypeOf(tensor);
      view = { dtype, storage: this.storageOf(handle, unitOf(dtype)), ...geometryOf(handle) };
      this.views.set(tensor, view);
    }
    return view;
  }

  /** Notes the bytes of a storage that a tensor reaches. */
  private span({ dtype, storage, offset, shape, strides }: View): Unwritable | undefined {
    if (storage.dtype !== unitOf(dtype)) {
      const both = `as ${storage.dtype.name} and as ${dtype.name}`;
      return new Unwritable(`one storage ${both}, which torch.load refuses; clone() one of the tensors`);
    }
    if (shape.includes(0)) return undefined;
    const last = shape.reduce((index, size, dim) => index + (size - 1) * strides[dim]!, offset);
    storage.include(offset * dtype.itemSize, (last + 1) * dtype.itemSize, dtype.itemSize);
    return undefined;
  }

  private rebuild(tensor: Tensor, requiresGrad: boolean): Reduction {
    const { dtype } = this.viewOf(tensor);
    const args = Tuple.of<unknown>(...this.placeOf(tensor), requiresGrad, new OrderedDict());
    if (dtype.storageClass === null) args.push(new GlobalName('torch', dtype.name));
    const flags = lazyFlags(tensor);
    if (flags.size > 0) args.push(flags);
    return new Reduction(dtype.storageClass === null ? rebuildUntyped : rebuildTyped, args);
  }

  private rebuildQuantized(tensor: Tensor): Reduction {
    const args = Tuple.of<unknown>(...this.placeOf(tensor), this.quantizer(tensor), false, new OrderedDict());
    return new Reduction(new GlobalName('torch._utils', '_rebuild_qtensor'), args);
  }

  /** Storage, offset, sizes and strides. */
  private placeOf(tensor: Tensor): unknown[] {
    const { dtype, storage, offset, shape, strides } = this.viewOf(tensor);
    const inFile = clamp(offset - storage.offset / dtype.itemSize, storage.size / dtype.itemSize);
    return [persistentIdOf({ storage, dtype }), inFile, Tuple.from(shape), Tuple.from(strides)];
  }

  private quantizer(tensor: Tensor): Tuple {
    let parameters = this.quantizers.get(tensor);
    if (parameters === undefined) {
      parameters = quantizerOf(tensor, (part) => this.keep(part));
      this.quantizers.set(tensor, parameters);
    }
    return parameters;
  }

  /** Frees a part at the end. */
  private keep(part: Tensor): Tensor {
    this.parts.push(part);
    return part;
  }

  private storageOf(handle: Handle, dtype: FileDType): SavedStorage {
    const { id, nbytes } = native().storageInfo(handle);
    let storage = this.byId.get(id);
    if (storage === undefined) {
      const bytes = native().viewStorage(handle, dtypeCode.uint8, 0, [nbytes], [1]);
      storage = new SavedStorage(String(this.byId.size), dtype, bytes);
      this.byId.set(id, storage);
    }
    return storage;
  }
}

/** Of a tensor that is a view of a storage. */
function fileDTypeOf({ dtype }: Tensor): FileDType {
  return (fileDTypes.get(dtype) ?? quantizedDTypes.get(dtype))!;
}

function isQuantized({ dtype }: Tensor): boolean {
  return quantizedDTypes.has(dtype);
}

/** A tensor without elements may lie anywhere, also outside of the span that the others need. */
function clamp(offset: number, most: number): number {
  return Math.max(0, Math.min(offset, most));
}

/** The dtypes of `_rebuild_tensor_v3` lie in storages of bytes. */
function unitOf(dtype: FileDType): FileDType {
  return dtype.storageClass === null ? byteDType : dtype;
}

/** The location is the CPU whatever the device: the file opens on machines without one, and `map_location` moves it. */
function persistentIdOf({ storage, dtype }: Pick<View, 'storage' | 'dtype'>, untyped = false): PersistentId {
  const type = (untyped ? undefined : storageNames.get(dtype.storageClass)) ?? untypedStorage;
  return new PersistentId(
    Tuple.of<unknown>('storage', type, storage.key, 'cpu', storage.size / unitOf(dtype).itemSize),
  );
}

/** A conjugate or negative that was not computed yet is written as such, over the bytes as they are. */
function lazyFlags(tensor: Tensor): Map<string, boolean> {
  const flags = new Map<string, boolean>();
  if (tensor.dtype.startsWith('complex') && isSet('is_conj', tensor)) flags.set('conj', true);
  if (isSet('is_neg', tensor)) flags.set('neg', true);
  return flags;
}

function isSet(flag: 'is_conj' | 'is_neg', tensor: Tensor): boolean {
  return (ops.aten[flag](tensor) as unknown) === true;
}
