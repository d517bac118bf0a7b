import { Cost, MemoryBudget } from '../pickle/budget';
import { InertObject, OrderedDict } from '../pickle/types';
import { NotedTensor, TensorChecker } from './archive';
import type { FileDType } from './dtypes';
import { spend } from './spend';
import type { ArraySpec, MetaSpec, Quantizer, SparseSpec, StorageRef, TensorSpec } from './tensor-spec';

export type TensorKind = 'tensor' | 'parameter' | 'quantized' | 'sparse' | 'meta' | 'array';

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

/** A line of a report. */
const noteCost = 4 * Cost.object;

/** A name is cut here, so that those of deep trees stay small together. */
const maxName = 500;

/** Where pickled modules keep what state dicts name without these. */
const transparent = new Set(['_modules', '_parameters', '_buffers']);

/** The tensors in a value, in its order. What is in the tree twice is listed twice where it is a tensor. */
export function namedNotes(root: unknown): NamedNote[] {
  const found: NamedNote[] = [];
  const seen = new Set<object>();
  const todo: { name: string; value: unknown }[] = [{ name: '', value: root }];
  const budget = new MemoryBudget();
  while (todo.length > 0) {
    const { name, value } = todo.pop()!;
    if (value instanceof TensorNote) {
      spend(budget, noteCost + name.length);
      found.push({ name, note: value });
      continue;
    }
    if (typeof value !== 'object' || value === null || seen.has(value)) continue;
    seen.add(value);
    spend(budget, Cost.entry);
    for (const [key, child] of childrenOf(value).reverse()) todo.push({ name: joined(name, key), value: child });
  }
  return found;
}

/** What is in a value and may hold tensors, with its key. */
function childrenOf(value: object): [string, object][] {
  const children: [string, object][] = [];
  const add = (key: unknown, child: unknown): void => {
    if (typeof child === 'object' && child !== null) children.push([text(key), child]);
  };
  if (value instanceof InertObject)
    for (const part of [value.state, value.args, value.members, value.items]) add('', part);
  else if (value instanceof Map) value.forEach((child, key) => add(key, child));
  else if (value instanceof Set) [...(value as Set<unknown>)].forEach((child, i) => add(i, child));
  else if (Array.isArray(value)) value.forEach((child, i) => add(i, child));
  if (value instanceof OrderedDict) add('', value.attributes);
  return children;
}

function text(key: unknown): string {
  return typeof key === 'object' && key !== null ? `<${key.constructor.name}>` : String(key).slice(0, maxName);
}

function joined(name: string, key: string): string {
  if (key === '' || transparent.has(key)) return name;
  const whole = name === '' ? key : `${name}.${key}`;
  return whole.length > maxName ? `${whole.slice(0, maxName)}…` : whole;
}
