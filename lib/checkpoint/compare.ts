import { checkOptions, checkWatchers, describe, type PathLike, toPath, TorchBindError, withPath } from '../errors';
import { native } from '../native/native';
import { noGrad } from '../tensor/autograd';
import type { DType } from '../tensor/dtype';
import { isDense, packTensors } from '../tensor/off-loop';
import { dispose, keep, tidy } from '../tensor/scope';
import { Tensor } from '../tensor/tensor';
import { withUnpacked } from './archives';
import { storageKey } from './snapshot';
import { NamedTensors, restoreTied } from '../formats/safetensors';
import { locate } from './locate';
import { readNewest } from './open';
import { partKeys } from './part-keys';
import { formatError, loadDict } from './saved-model';

/** Difference of a tensor between two checkpoints, computed in float64. */
export interface TensorComparison {
  name: string;
  shape: readonly number[];
  /** Dtypes in the first and in the second checkpoint; they may differ. */
  dtypes: readonly [DType, DType];
  /** Whether both have the same dtype and the same bits. */
  equal: boolean;
  /** Euclidean length of the difference, `(a - b).norm()`. */
  l2: number;
  /** Largest absolute difference of two elements. */
  maxAbs: number;
  /** `l2` divided by the norm of the first tensor; null if that is zero and the second is not. */
  relative: number | null;
  /** Cosine of the angle between both as vectors; null if one of them is zero. */
  cosine: number | null;
}

/** Result of `compare`: plain data that can be JSON. `formatComparison` makes a table of it. */
export interface Comparison {
  /** Tensors in both checkpoints with the same shape, in the order of the first. */
  tensors: TensorComparison[];
  onlyInA: string[];
  onlyInB: string[];
  /** Tensors with the same name but different shapes. */
  shapesDiffer: { name: string; a: readonly number[]; b: readonly number[] }[];
  /** Over `tensors` as one vector. Tensors in the same memory, such as tied weights, count once. */
  totals: Omit<TensorComparison, 'name' | 'shape' | 'dtypes'> & {
    /** Number of tensors compared, and number of equal ones. */
    tensors: number;
    equalTensors: number;
    elements: number;
  };
}

/** A checkpoint, by its path, or a state dict. */
export type Comparable = PathLike | ReadonlyMap<string, unknown>;

/** Number of elements compared at a time: 32 MB in float64. */
const chunkSize = 2 ** 22;

/**
 * Compares the weights of two checkpoints, tensor by tensor. Files are memory-mapped and compared in pieces, so that
 * neither model has to fit into memory.
 *
 * @param a a bundle's directory, one of its `steps/`, any file or directory that `GPT.load` opens, a safetensors file,
 *   or a state dict
 * @throws CheckpointError if a file is invalid
 */
export async function compare(
  a: Comparable,
  b: Comparable,
  options: { signal?: AbortSignal } = {},
): Promise<Comparison> {
  checkOptions(options, ['signal'], 'compare');
  checkWatchers(options, 'compare');
  for (const value of [a, b]) checkComparable(value);
  const opened: Map<string, Tensor>[] = [];
  const open = async (value: Comparable): Promise<Map<string, Tensor>> => {
    if (value instanceof Map) return tensorsOf(value as ReadonlyMap<unknown, unknown>);
    const weights = await weightsAt(toPath(value, 'compare'));
    opened.push(weights);
    return weights;
  };
  try {
    return await compareWeights(await open(a), await open(b), options.signal);
  } finally {
    dispose(opened);
  }
}

/**
 * The state dict at a path, memory-mapped: its bytes are read when they are used. No model is made of it, so that any
 * state dict will do.
 */
function weightsAt(target: string): Promise<Map<string, Tensor>> {
  return withUnpacked(target, (place) =>
    readNewest(
      place,
      () => locate(place),
      { training: false, allowMixed: false },
      ({ weights }) => weightsIn(weights),
    ),
  );
}

async function weightsIn(file: string): Promise<Map<string, Tensor>> {
  const all = await loadDict(file, { mmap: true, unknown: 'inert' });
  if (all instanceof NamedTensors) restoreTied(all as NamedTensors);
  const inner = partKeys.weights.map((key) => all.get(key)).find((value) => value instanceof Map);
  const weights = tensorsOf((inner ?? all) as ReadonlyMap<unknown, unknown>);
  for (const [key, value] of all) if (value !== inner && !weights.has(key)) dispose(value);
  if (weights.size > 0) return weights;
  const keys = [...all.keys()].slice(0, 8).join(', ');
  return withPath(file, () => {
    throw formatError(`it holds no state dict. Its keys are ${keys || 'none'}.`);
  });
}

/** The tensors of a dict by name; others are left out. */
function tensorsOf(dict: ReadonlyMap<unknown, unknown>): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  for (const [key, value] of dict) if (typeof key === 'string' && value instanceof Tensor) tensors.set(key, value);
  return tensors;
}

async function compareWeights(
  a: ReadonlyMap<string, Tensor>,
  b: ReadonlyMap<string, Tensor>,
  signal: AbortSignal | undefined,
): Promise<Comparison> {
  const found: Comparison['tensors'] = [];
  const shapesDiffer: Comparison['shapesDiffer'] = [];
  const seen = new Set<string>();
  const total = noSums();
  for (const [name, x] of a) {
    const y = b.get(name);
    if (y === undefined) continue;
    if (String(x.shape) !== String(y.shape)) {
      shapesDiffer.push({ name, a: [...x.shape], b: [...y.shape] });
      continue;
    }
    const sums = await compareTensors(x, y, signal);
    found.push({ name, shape: [...x.shape], dtypes: [x.dtype, y.dtype], ...distances(sums) });
    const place = [x, y].map(placeOf).join(' ');
    if (!seen.has(place)) add(total, sums);
    seen.add(place);
  }
  return {
    tensors: found,
    onlyInA: [...a.keys()].filter((name) => !b.has(name)),
    onlyInB: [...b.keys()].filter((name) => !a.has(name)),
    shapesDiffer,
    totals: {
      ...distances(total),
      tensors: found.length,
      equalTensors: found.filter(({ equal }) => equal).length,
      elements: total.elements,
    },
  };
}

/** Location of the elements in memory. A tensor that is not contiguous counts as separate memory. */
function placeOf(tensor: Tensor): string {
  return tensor.layout === 'strided' && !tensor.isQuantized ? storageKey(tensor) : `${tensor.handle}`;
}

/** What distances are made of; these add up over pieces. */
interface Sums {
  elements: number;
  /** Of the products a * a, b * b, a * b and of the squared differences. */
  aa: number;
  bb: number;
  ab: number;
  dd: number;
  maxAbs: number;
  equal: boolean;
}

function noSums(): Sums {
  return { elements: 0, aa: 0, bb: 0, ab: 0, dd: 0, maxAbs: 0, equal: true };
}

function add(total: Sums, part: Sums): void {
  for (const name of ['elements', 'aa', 'bb', 'ab', 'dd'] as const) total[name] += part[name];
  // Math.max passes NaN on.
  total.maxAbs = Math.max(total.maxAbs, part.maxAbs);
  total.equal &&= part.equal;
}

function distances({ aa, bb, ab, dd, maxAbs, equal }: Sums): Omit<TensorComparison, 'name' | 'shape' | 'dtypes'> {
  const l2 = Math.sqrt(dd);
  return {
    equal,
    l2,
    maxAbs,
    relative: dd === 0 ? 0 : aa === 0 ? null : l2 / Math.sqrt(aa),
    cosine: aa === 0 || bb === 0 ? null : Math.min(1, Math.max(-1, ab / Math.sqrt(aa) / Math.sqrt(bb))),
  };
}

async function compareTensors(a: Tensor, b: Tensor, signal: AbortSignal | undefined): Promise<Sums> {
  const sums = noSums();
  const made: Tensor[] = [];
  try {
    const [x, y] = [await contiguous(a, made), await contiguous(b, made)];
    const count = a.numel();
    for (let start = 0; start < count; start += chunkSize) {
      const elements = Math.min(chunkSize, count - start);
      add(sums, { elements, ...(await native().measureDistance(x.handle, y.handle, start, elements)) });
      signal?.throwIfAborted();
    }
    sums.equal &&= a.dtype === b.dtype;
  } finally {
    dispose(made);
  }
  return sums;
}

/** The tensor, or a dense copy of which the elements lie one after the other. */
async function contiguous(tensor: Tensor, made: Tensor[]): Promise<Tensor> {
  if (isDense(tensor) && tensor.isContiguous()) return tensor;
  const dense = keep(
    noGrad(() =>
      tidy(() => {
        const strided = tensor.layout === 'strided' ? tensor : tensor.toDense();
        return (strided.isQuantized ? strided.dequantize() : strided).detach();
      }),
    ),
  );
  made.push(dense);
  if (dense.isContiguous()) return dense;
  const [packed] = await packTensors([dense]);
  made.push(packed!);
  return packed!;
}

function checkComparable(value: unknown): void {
  if (typeof value === 'string' || value instanceof URL || value instanceof Map) return;
  throw new TorchBindError(
    `compare: expected the path of a checkpoint or a state dict, a Map of tensors by name, got ${describe(value)}. ` +
      'Of a model, give model.stateDict().',
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}
