import { Cost, MemoryBudget, spend } from '../../pickle/budget';
import { DictSubclass, InertObject, OrderedDict } from '../../pickle/types';
import { NotedTensor, TensorChecker } from './archive';
import type { FileDType } from './dtypes';
import { holdsValues } from './walk';
import type { ArraySpec, MetaSpec, Quantizer, SparseSpec, StorageRef, StorageView, TensorSpec } from './tensor-spec';

export type TensorKind = 'tensor' | 'parameter' | 'quantized' | 'sparse' | 'meta' | 'array' | 'storage';

/** What a pickle says of a tensor, checked. */
export class TensorNote extends NotedTensor {
  constructor(
    dtype: FileDType,
    shape: readonly number[],
    readonly kind: TensorKind,
    /** Of its elements; of a sparse tensor, those of its parts. */
    readonly bytes: number,
    /** Where its bytes are; null where they are in no storage of their own. */
    readonly place: { storage: StorageRef; offset: number; strides: readonly number[] } | null,
    /** Of a sparse tensor. */
    readonly parts: readonly TensorNote[] = [],
  ) {
    super(dtype, shape);
  }

  get elements(): number {
    return this.shape.reduce((product, size) => product * size, 1);
  }
}

/** Makes notes of tensors, with all the checks that making them has. */
export class TensorNotes extends TensorChecker {
  override tensor(spec: TensorSpec): TensorNote {
    super.tensor(spec);
    return this.note(spec, 'tensor');
  }

  override parameter(tensor: NotedTensor, requiresGrad: boolean): NotedTensor {
    const { dtype, shape, bytes, place } = super.parameter(tensor, requiresGrad) as TensorNote;
    return new TensorNote(dtype, shape, 'parameter', bytes, place);
  }

  override quantized(spec: TensorSpec, quantizer: Quantizer): TensorNote {
    super.quantized(spec, quantizer);
    return this.note(spec, 'quantized');
  }

  override sparse(spec: SparseSpec): TensorNote {
    const { dtype, shape } = super.sparse(spec);
    const parts = [...spec.indices, spec.values] as TensorNote[];
    const bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
    return new TensorNote(dtype, shape, 'sparse', bytes, null, parts);
  }

  override meta({ dtype, shape }: MetaSpec): TensorNote {
    return new TensorNote(dtype, shape, 'meta', 0, null);
  }

  override array({ dtype, shape, bytes }: ArraySpec): TensorNote {
    return new TensorNote(dtype, shape, 'array', bytes.length, null);
  }

  override storage(view: StorageView): TensorNote {
    const { dtype, shape } = super.storage(view);
    const offset = view.start / dtype.itemSize;
    return new TensorNote(dtype, shape, 'storage', view.nbytes, { storage: view.storage, offset, strides: [1] });
  }

  private note({ dtype, shape, storage, offset, strides }: TensorSpec, kind: TensorKind): TensorNote {
    const elements = shape.reduce((product, size) => product * size, 1);
    return new TensorNote(dtype, shape, kind, elements * dtype.itemSize, { storage, offset, strides });
  }
}

export interface NamedNote {
  /** The keys that lead to it, joined by dots: `model.lm_head.weight`. */
  name: string;
  note: TensorNote;
}

/** For the places of a walk and for long names: how many tensors there are was counted when the pickle was read. */
const memoryLimit = 12 * 2 ** 20;

/** A name is cut here, so that those of deep trees stay small together. */
const maxName = 500;

/** Where pickled modules keep what state dicts name without these. */
const transparent = new Set(['_modules', '_parameters', '_buffers']);

/** Where a walk is in a part of a value. */
interface Place {
  name: string;
  children: Iterator<readonly [key: unknown, child: unknown], unknown>;
}

/** What is left of a place that was walked through. */
const enteredCost = Cost.object;
const placeCost = 2 * Cost.object;

/** The tensors in a value, in its order. What is in the tree twice is listed twice where it is a tensor. */
export function namedNotes(root: unknown): NamedNote[] {
  const found: NamedNote[] = [];
  const entered = new Set<unknown>();
  const places: Place[] = [];
  const budget = new MemoryBudget(memoryLimit);
  const visit = (name: string, value: unknown): void => {
    if (value instanceof TensorNote) {
      spend(budget, name.length);
      found.push({ name, note: value });
    } else if (holdsValues(value) && !entered.has(value)) {
      spend(budget, enteredCost + placeCost);
      entered.add(value);
      places.push({ name, children: childrenOf(value) });
    }
  };
  visit('', root);
  for (let place = places.at(-1); place !== undefined; place = places.at(-1)) {
    const next = place.children.next();
    if (next.done !== true) visitChild(place.name, next.value, visit);
    else {
      places.pop();
      budget.give(placeCost);
    }
  }
  return found;
}

/** Names are made for what may be a tensor or hold some. */
function visitChild(
  name: string,
  [key, child]: readonly [key: unknown, child: unknown],
  visit: (name: string, value: unknown) => void,
): void {
  if (child instanceof TensorNote || holdsValues(child)) visit(joined(name, text(key)), child);
}

function childrenOf(value: object): Place['children'] {
  if (value instanceof InertObject)
    return [value.state, value.args, value.members, value.items].map((part) => ['', part] as const).values();
  if (value instanceof DictSubclass) return withAttributes(value, value.state);
  const items = (value as unknown[] | Map<unknown, unknown>).entries();
  if (!(value instanceof OrderedDict) || value.attributes.size === 0) return items;
  return withAttributes(value, value.attributes);
}

function* withAttributes(
  dict: Map<unknown, unknown>,
  attributes: unknown,
): Generator<readonly [key: unknown, child: unknown]> {
  yield* dict;
  yield ['', attributes];
}

function text(key: unknown): string {
  return typeof key === 'object' && key !== null ? `<${key.constructor.name}>` : String(key).slice(0, maxName);
}

function joined(name: string, key: string): string {
  // Those below a name that is cut all have that.
  if (key === '' || transparent.has(key) || name.length > maxName) return name;
  const whole = name === '' ? key : `${name}.${key}`;
  return whole.length > maxName ? `${whole.slice(0, maxName)}…` : whole;
}
