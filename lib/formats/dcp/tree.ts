import { describe, TorchBindError } from '../../errors';
import { isPlainObject } from '../../objects';
import { GlobalError } from '../../pickle/globals';
import { Tuple } from '../../pickle/types';
import { Tensor } from '../../tensor/tensor';
import type { KeyPath } from './metadata';

/**
 * Distributed checkpoints hold the leaves of a state dict, each under its path: keys of dicts, as text, and indices of lists.
 * PyTorch's `flatten_state_dict` and `unflatten_state_dict`.
 */

/** A dict, or a list by its indices, while its items are put in. */
type Node = Map<string | number, unknown>;

/** Items that lists may have without a value in the file: Python leaves out empty dicts and lists. */
const maxHoles = 100_000;

/**
 * The state dict of which these are the leaves.
 *
 * @throws GlobalError where a path leads through a leaf, or to one that is there
 */
export function nested(leaves: Iterable<readonly [path: KeyPath, value: unknown]>): Map<string, unknown> {
  const root: Node = new Map();
  const nodes = new Set<unknown>([root]);
  for (const [path, value] of leaves) {
    let node = root;
    path.forEach((key, i) => {
      const isIndex = typeof key === 'number';
      const [first] = node.keys();
      if (first !== undefined && isIndex !== (typeof first === 'number'))
        throw new GlobalError(`${path.slice(0, i).join('.')} is both a dict and a list`);
      if (i === path.length - 1) {
        if (node.has(key)) throw new GlobalError(`two values have the path ${path.join('.')}`);
        node.set(key, value);
        return;
      }
      let next = node.get(key);
      if (next === undefined && !node.has(key)) {
        next = new Map();
        nodes.add(next);
        node.set(key, next);
      } else if (!nodes.has(next))
        throw new GlobalError(`${path.slice(0, i + 1).join('.')} is both a value and a dict`);
      node = next as Node;
    });
  }
  return withLists(root, nodes);
}

function withLists(root: Node, nodes: ReadonlySet<unknown>): Map<string, unknown> {
  let holes = 0;
  const listOf = (node: Node): unknown[] => {
    const indices = [...node.keys()] as number[];
    const length = indices.reduce((most, index) => Math.max(most, index + 1), 0);
    holes += length - indices.length;
    if (holes > maxHoles) throw new GlobalError('the indices of a list leave out more items than it has');
    const list = new Array<unknown>(length).fill(null);
    for (const [index, value] of node) list[index as number] = value;
    return list;
  };
  // Nodes were made from the outside in: what is in a node is finished before it.
  const finished = new Map<unknown, unknown>();
  for (const node of [...nodes].reverse() as Node[]) {
    for (const [key, value] of node) if (finished.has(value)) node.set(key, finished.get(value));
    const [first] = node.keys();
    finished.set(node, typeof first === 'number' ? listOf(node) : node);
  }
  return root as Map<string, unknown>;
}

/** Deeper ones are refused: they may contain themselves. */
const maxDepth = 100;

/**
 * The leaves of a state dict: what is in dicts, and in lists that hold tensors, dicts or lists of those.
 *
 * @throws TorchBindError ERR_TORCHBIND_UNSUPPORTED_VALUE for keys that become equal as text, and for a value that is not a dict
 */
export function leavesOf(stateDict: unknown): Map<string, { path: KeyPath; value: unknown }> {
  const leaves = new Map<string, { path: KeyPath; value: unknown }>();
  const visit = (path: KeyPath, value: unknown): void => {
    const key = path.join('.');
    if (path.length > maxDepth)
      throw unwritable(`${key.slice(0, 100)}...: more than ${maxDepth} levels of dicts and lists`);
    const entries = entriesOf(value);
    if (entries !== undefined) for (const [name, item] of entries) visit([...path, keyText(name, key)], item);
    else if (isBranch(value)) value.forEach((item, index) => visit([...path, index], item));
    else if (leaves.has(key)) throw unwritable(`two values would have the key ${JSON.stringify(key)}`);
    else leaves.set(key, { path, value });
  };
  const entries = entriesOf(stateDict);
  if (entries === undefined) throw unwritable(`expected a state dict, got ${describe(stateDict)}`);
  for (const [name, value] of entries) visit([keyText(name, '')], value);
  return leaves;
}

function entriesOf(value: unknown): Iterable<readonly [unknown, unknown]> | undefined {
  if (value instanceof Map) return value as Map<unknown, unknown>;
  return isPlainObject(value) ? Object.entries(value) : undefined;
}

/** Whether a list is gone into: one of plain values alone is a value itself, as is a tuple. */
function isBranch(value: unknown, depth = 0): value is unknown[] {
  if (!Array.isArray(value) || value instanceof Tuple || depth > maxDepth) return false;
  return value.some((item) => item instanceof Tensor || entriesOf(item) !== undefined || isBranch(item, depth + 1));
}

/** Python's `str(key)`. */
function keyText(key: unknown, place: string): string {
  if (typeof key === 'string') return key;
  if (typeof key === 'number' || typeof key === 'bigint') return String(key);
  throw unwritable(
    `${place === '' ? 'the state dict' : place}: expected keys that are str or int, got ${describe(key)}`,
  );
}

function unwritable(message: string): TorchBindError {
  return new TorchBindError(`saveDistributed: ${message}.`, 'ERR_TORCHBIND_UNSUPPORTED_VALUE');
}
