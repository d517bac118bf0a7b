import type { GPTModel } from '../models/gpt-model';
import { NO_COPIES, type StorageCopies } from '../compute';
import { optimizerStateDict } from '../models/optimizers';
import { native } from '../native/native';
import type { AnyOptimizer } from '../optim';
import { OrderedDict } from '../pickle/types';
import { noGrad } from '../tensor/autograd';
import { dtypeCode } from '../tensor/dtype';
import { clone } from '../tensor/generated/functions';
import { packTensors, wrapUnowned } from '../tensor/off-loop';
import { dispose, tidy } from '../tensor/scope';
import { Tensor } from '../tensor/tensor';

/** A model's tensors as they are to be written. */
export interface TensorSnapshot {
  weights: Map<string, unknown>;
  optimizerState: Map<string, unknown> | null;
  /** Puts parts that are not contiguous in order. Await it before the snapshot is used. */
  pack(): Promise<void>;
  /** Frees the copies. */
  release(): void;
}

/**
 * The state dicts of a model and of its optimizer as they are now, in the layout's form. Model and optimizer may change
 * while the snapshot is written.
 *
 * @param optimizer or its state dict in the layout's form; undefined for none
 * @param copied copies of storages whose memory must not move, of this moment
 */
export function takeSnapshot(
  model: GPTModel,
  optimizer: AnyOptimizer | ReadonlyMap<string, unknown> | undefined,
  copied: StorageCopies = NO_COPIES,
): TensorSnapshot {
  const copies = new TensorCopies(copied);
  return noGrad(() =>
    tidy(() => {
      const weights = model.stateOf('', ({ tensor, part }) => (part === true ? copies.part(tensor) : tensor));
      const optimizerState =
        optimizer === undefined || optimizer instanceof Map
          ? ((optimizer as Map<string, unknown> | undefined) ?? null)
          : optimizerStateDict(model, optimizer as AnyOptimizer, (part) => copies.part(part));
      const [weightCopies, stateCopies] = copies.of([weights, optimizerState]);
      return {
        weights: weightCopies as Map<string, unknown>,
        optimizerState: stateCopies as Map<string, unknown> | null,
        pack: () => copies.pack(),
        release: () => copies.dispose(),
      };
    }),
  );
}

/** Ends with the packing that was begun last. */
let lastPacking: Promise<unknown> = Promise.resolve();

/** Copies of tensors on the CPU. What shares memory, such as tied weights, shares it in the copies too, but for parts. */
class TensorCopies {
  constructor(private readonly copied: StorageCopies) {}

  private readonly parts = new Set<Tensor>();
  /** Copies by their originals. */
  private readonly made = new Map<Tensor, Tensor>();
  /** Parts in the trees that are to be packed. */
  private readonly unpacked: { map: Map<unknown, unknown>; key: unknown; copy: Tensor }[] = [];

  /** Records a view as part of a tensor that files hold separately. */
  part(view: Tensor): Tensor {
    this.parts.add(view);
    return view;
  }

  /** Trees of maps and lists with copies of their tensors. */
  of(trees: readonly unknown[]): unknown[] {
    const tensors = new Set<Tensor>();
    for (const tree of trees) collectTensors(tree, tensors);
    this.copy([...tensors]);
    return trees.map((tree) => this.copyOf(tree));
  }

  async pack(): Promise<void> {
    const waiting = this.unpacked.splice(0);
    // One after the other: a later save must not be written before an earlier one.
    const packing = lastPacking.then(() => packTensors(waiting.map(({ copy }) => copy)));
    lastPacking = packing.catch(() => undefined);
    const packed = await packing;
    waiting.forEach(({ map, key, copy }, i) => {
      map.set(key, packed[i]!);
      this.made.set(copy, packed[i]!);
      copy.dispose();
    });
  }

  dispose(): void {
    dispose([...this.made.values()]);
  }

  private copy(tensors: readonly Tensor[]): void {
    // A part gets a lazy copy of the storage for itself, of which its span is then written.
    const keys = tensors.map((tensor) => (this.parts.has(tensor) ? tensor : storageId(tensor)));
    const sources = new Map(keys.map((key, i) => [key, tensors[i]!]));
    const handles = this.lazyCopies([...sources.values()]);
    const storages = new Map(Array.from(sources.keys(), (key, i) => [key, handles[i]!]));
    const views = new Map<string, Tensor>();
    try {
      tensors.forEach((tensor, i) => {
        const id = this.parts.has(tensor) ? `part ${i}` : storageKey(tensor);
        const copy = views.get(id) ?? viewOf(tensor, storages.get(keys[i]!)!);
        views.set(id, copy);
        this.made.set(tensor, copy);
      });
    } catch (error) {
      dispose([...views.values()]);
      throw error;
    } finally {
      for (const handle of handles) native().dispose(handle);
    }
  }

  /** Copy-on-write copies of the tensors' storages; 0 for those that must be copied immediately. */
  private lazyCopies(tensors: readonly Tensor[]): number[] {
    const handles = native().lazyCopies(tensors.map(({ handle }) => handle));
    // Memory that must not move has a lazy copy only where somebody has copied it already.
    const missing = tensors.flatMap((tensor, i) => {
      const copy = handles[i] === 0 ? this.copied.get(storageId(tensor)) : undefined;
      return copy === undefined ? [] : [{ i, copy }];
    });
    const copies = native().lazyCopies(missing.map(({ copy }) => copy.handle));
    missing.forEach(({ i }, j) => (handles[i] = copies[j]!));
    return handles;
  }

  private copyOf(value: unknown): unknown {
    if (value instanceof Tensor) return this.made.get(value)!;
    if (Array.isArray(value)) return value.map((item) => this.copyOf(item));
    if (!(value instanceof Map)) return value;
    const copy = value instanceof OrderedDict ? new OrderedDict() : new Map<unknown, unknown>();
    for (const [key, item] of value) {
      const copied = this.copyOf(item);
      copy.set(key, copied);
      if (this.parts.has(item as Tensor) && !(copied as Tensor).isContiguous())
        this.unpacked.push({ map: copy, key, copy: copied as Tensor });
    }
    if (value instanceof OrderedDict)
      for (const [name, attribute] of value.attributes) (copy as OrderedDict).attributes.set(name, attribute);
    return copy;
  }
}

function collectTensors(value: unknown, found: Set<Tensor>): void {
  if (value instanceof Tensor) found.add(value);
  else if (Array.isArray(value) || value instanceof Map) for (const item of value.values()) collectTensors(item, found);
}

/** The tensor as a view of the lazy copy of its storage; without a lazy copy, the tensor is copied now. */
function viewOf(tensor: Tensor, storage: number): Tensor {
  if (storage === 0) return wrapUnowned(native().alias(copyToCpu(tensor).handle));
  const [offset, strides] = [tensor.storageOffset(), tensor.strides()];
  return wrapUnowned(native().viewStorage(storage, dtypeCode[tensor.dtype], offset, tensor.shape, strides));
}

function copyToCpu(tensor: Tensor): Tensor {
  return tensor.device === 'cpu' ? clone(tensor) : tensor.to('cpu');
}

function storageId(tensor: Tensor): number {
  return native().storageInfo(tensor.handle).id;
}

/** The same for tensors that are the same view of one storage, such as tied weights. */
export function storageKey(tensor: Tensor): string {
  const { id } = native().storageInfo(tensor.handle);
  return [id, tensor.dtype, tensor.storageOffset(), tensor.shape, tensor.strides()].join(' ');
}
