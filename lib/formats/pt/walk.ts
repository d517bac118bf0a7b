import { DictSubclass, InertObject, OrderedDict } from '../../pickle/types';

/**
 * Puts `change(value)` in the place of every value in a tree of what a pickle can hold, and continues into what it gives. What the
 * tree shares is entered once, and its depth is bounded by memory alone. Keys and the members of sets stay: they can be no more
 * than numbers, text and tuples of those.
 *
 * Yields between slices of the work.
 *
 * @returns what `change` gives for the root
 */
export function* changeValues(root: unknown, change: (value: unknown) => unknown): Generator<void, unknown, void> {
  const entered = new Set<object>();
  const todo: object[] = [];
  let visited = 0;
  const isSliceEnd = (): boolean => visited >= sliceSize && (visited = 0) === 0;
  const visit = (value: unknown): unknown => {
    visited++;
    const changed = change(value);
    if (holdsValues(changed) && !entered.has(changed)) {
      entered.add(changed);
      todo.push(changed);
    }
    return changed;
  };
  const result = visit(root);
  for (let node = todo.pop(); node !== undefined; node = todo.pop()) yield* changeWithin(node, visit, isSliceEnd);
  return result;
}

type Visit = (value: unknown) => unknown;

/** Values that are changed in a slice. Making tensors of them takes well under a millisecond. */
const sliceSize = 64;

/** Whether a value has others in it that may be tensors: no member of a set can be one. */
export function holdsValues(value: unknown): value is object {
  if (Array.isArray(value)) return value.length > 0;
  if (value instanceof OrderedDict) return value.size + value.attributes.size > 0;
  if (value instanceof DictSubclass) return true;
  return (value instanceof Map && value.size > 0) || value instanceof InertObject;
}

function* changeWithin(node: object, visit: Visit, isSliceEnd: () => boolean): Generator<void, void, void> {
  if (Array.isArray(node)) {
    for (let i = 0; i < node.length; i++) {
      if (isSliceEnd()) yield;
      const item: unknown = node[i];
      const changed = visit(item);
      if (changed !== item) node[i] = changed;
    }
  } else if (node instanceof Map) {
    yield* changeMap(node, visit, isSliceEnd);
    if (node instanceof OrderedDict) yield* changeMap(node.attributes, visit, isSliceEnd);
    if (node instanceof DictSubclass) node.state = visit(node.state);
  } else if (node instanceof InertObject) {
    node.state = visit(node.state);
    for (const part of [node.args, node.members, node.items]) visit(part);
  }
}

function* changeMap(map: Map<unknown, unknown>, visit: Visit, isSliceEnd: () => boolean): Generator<void, void, void> {
  for (const [key, value] of map) {
    if (isSliceEnd()) yield;
    const changed = visit(value);
    if (changed !== value) map.set(key, changed);
  }
}
