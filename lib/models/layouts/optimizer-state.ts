import { readStateDict, stateDictError, stepValue } from '../../optim/state-dict';
import type { FileGroup, ParameterState } from '../../optim/state-dict';
import { describe } from '../../errors';
import { sameShape, size } from '../../nn/state-dict';
import { plainNumber } from '../../pickle/types';
import { cat } from '../../tensor/generated/functions';
import { Tensor } from '../../tensor/tensor';
import { isPart, partOf } from './layout';
import type { KeyedParameter } from './layout';

/**
 * Optimizer state between the parameters here and those of a layout's family: the same table that maps weights maps
 * the moments, which have the weights' shapes.
 */

/** The parameters of each of an optimizer's groups, by their names here, in the optimizer's order. */
export type GroupNames = readonly (readonly string[])[];

/**
 * The state dict that the family's own optimizer would have, numbered in the order of the family's parameters within
 * each group. Moments of fused parameters are taken apart.
 *
 * @param options.takePart what stands for a part, which is a view of its own of a moment or a step. Default: a copy of it
 */
export function optimizerToFile(
  stateDict: ReadonlyMap<string, unknown>,
  groupNames: GroupNames,
  table: readonly KeyedParameter[],
  { named, takePart = packed }: { named: boolean; takePart?: ((part: Tensor) => Tensor) | undefined },
): Map<string, unknown> {
  const { state, groups } = readStateDict(stateDict);
  const byName = new Map(
    groupNames.flatMap((names, i) => names.map((name, j) => [name, state.get(groups[i]!.params[j])])),
  );
  const lines = groupNames.map((names) => linesOf(names, table));
  const fileState = new Map<number, ParameterState>();
  lines.flat().forEach((line, index) => {
    const values = byName.get(line.parameter);
    if (values !== undefined) fileState.set(index, partOfState(values, line, takePart));
  });
  let next = 0;
  const fileGroups = groups.map(({ values }, i) => {
    const group = new Map(values);
    group.delete('param_names');
    group.delete('params');
    if (named)
      group.set(
        'param_names',
        lines[i]!.map(({ key }) => key),
      );
    return group.set(
      'params',
      lines[i]!.map(() => next++),
    );
  });
  return new Map<string, unknown>([
    ['state', fileState],
    ['param_groups', fileGroups],
  ]);
}

/**
 * The state dict for an optimizer over the parameters here, from one of the family's optimizer. Parameters are matched
 * by `param_names` where a group has them, else by the order of the family's parameters within the group.
 *
 * @param options shapes: of the parameters here, by name; required: what the state of each must hold; joinParts: what stands
 *   for parts that are one tensor here, one after the other along the first dimension. Default: a copy of them
 * @throws ERR_TORCHBIND_OPTIMIZER_STATE, in the file's names, for what cannot be carried over exactly
 */
export function optimizerFromFile(
  stateDict: ReadonlyMap<string, unknown>,
  groupNames: GroupNames,
  table: readonly KeyedParameter[],
  {
    shapes,
    required,
    joinParts = cat,
  }: {
    shapes: ReadonlyMap<string, readonly number[]>;
    required: readonly string[];
    joinParts?: ((parts: Tensor[]) => Tensor) | undefined;
  },
): Map<string, unknown> {
  const { state, groups } = readStateDict(stateDict);
  const lines = matchLines(groups, groupNames, table);
  for (const index of state.keys()) {
    if (!lines.has(index))
      throw stateDictError(`it holds state for parameter ${String(index)}, which is in none of its groups.`);
  }
  const parts = new Map<string, Part[]>();
  for (const [index, line] of lines) {
    const values = state.get(index);
    if (values !== undefined) {
      checkParts(values, line, required);
      checkShapes(values, line, shapes.get(line.parameter)!);
    }
    parts.set(line.parameter, [...(parts.get(line.parameter) ?? []), { line, values }]);
  }
  const ownState = new Map<number, ParameterState>();
  groupNames.flat().forEach((name, index) => {
    const values = join(parts.get(name)!, joinParts);
    if (values !== undefined) ownState.set(index, values);
  });
  let next = 0;
  const ownGroups = groups.map(({ values }, i) => {
    const group = new Map(values);
    if (group.has('param_names')) group.set('param_names', [...groupNames[i]!]);
    return group.set(
      'params',
      groupNames[i]!.map(() => next++),
    );
  });
  return new Map<string, unknown>([
    ['state', ownState],
    ['param_groups', ownGroups],
  ]);
}

/** The `param_names` of a group, where it has as many as parameters. */
export function namesOf({ params, values }: FileGroup): string[] | undefined {
  const names: unknown = values.get('param_names');
  return Array.isArray(names) && names.length === params.length ? names.map(String) : undefined;
}

/** State of a part of a parameter; undefined where the file has none. */
interface Part {
  line: KeyedParameter;
  values: ParameterState | undefined;
}

/** The family's parameters that make up the named ones, in the family's order. */
function linesOf(names: readonly string[], table: readonly KeyedParameter[]): KeyedParameter[] {
  const wanted = new Set(names);
  return table.filter((line) => wanted.has(line.parameter));
}

function packed(part: Tensor): Tensor {
  return part.clone({ memoryFormat: 'contiguous_format' });
}

function partOfState(values: ParameterState, line: KeyedParameter, takePart: (part: Tensor) => Tensor): ParameterState {
  if (!isPart(line)) return values;
  return new Map(
    Array.from(values, ([key, value]) => {
      if (!(value instanceof Tensor)) return [key, value];
      return [key, takePart(value.ndim === 0 ? value.detach() : partOf(value, line))];
    }),
  );
}

/** The table line for each parameter number in the file. */
function matchLines(
  groups: readonly FileGroup[],
  groupNames: GroupNames,
  table: readonly KeyedParameter[],
): Map<unknown, KeyedParameter> {
  if (groups.length !== groupNames.length) {
    throw stateDictError(`it has ${groups.length} parameter group(s), the optimizer ${groupNames.length}.`);
  }
  const matched = new Map<unknown, KeyedParameter>();
  groups.forEach((group, i) => {
    const { params } = group;
    const lines = linesOf(groupNames[i]!, table);
    if (params.length !== lines.length) {
      throw stateDictError(
        `its parameter group ${i} has ${params.length} parameter(s), but the model's group has ${lines.length}, ` +
          `${lines[0]?.key ?? 'none'} to ${lines.at(-1)?.key ?? 'none'}.`,
      );
    }
    const names = namesOf(group);
    const ordered = names === undefined ? lines : byNames(names, lines, i);
    params.forEach((index, j) => matched.set(index, ordered[j]!));
  });
  return matched;
}

/**
 * Names as the keys are. An optimizer is mostly made before its model is compiled or distributed, and its names then lack
 * the prefix that the keys have; made after, it may have one that they lack.
 */
export function alignNames(names: readonly string[], keys: ReadonlyMap<string, unknown>): readonly string[] {
  if (names.every((name) => keys.has(name))) return names;
  const first = names[0]!;
  for (const key of keys.keys()) {
    const shorter = key.length < first.length;
    const [long, short] = shorter ? [first, key] : [key, first];
    if (!long.endsWith(`.${short}`)) continue;
    const prefix = long.slice(0, -short.length);
    const aligned = names.map((name) => (shorter ? name.slice(prefix.length) : prefix + name));
    if (aligned.every((name) => keys.has(name))) return aligned;
  }
  return names;
}

function byNames(names: readonly string[], lines: readonly KeyedParameter[], group: number): KeyedParameter[] {
  const byKey = new Map(lines.map((line) => [line.key, line]));
  names = alignNames(names, byKey);
  const strangers = names.filter((name) => !byKey.has(name));
  if (strangers.length > 0 || new Set(names).size !== lines.length) {
    const missing = [...byKey.keys()].filter((key) => !names.includes(key));
    throw stateDictError(
      `the param_names of its group ${group} are not those of the optimizer's group. ` +
        `Only in the file: ${list(strangers)}. Only in the model: ${list(missing)}.`,
    );
  }
  return names.map((name) => byKey.get(name)!);
}

function list(names: readonly string[]): string {
  if (names.length === 0) return 'none';
  return names.slice(0, 5).join(', ') + (names.length > 5 ? ` and ${names.length - 5} more` : '');
}

/** Refuses a state that lacks a part, or has one that is not made of the right numbers. */
function checkParts(values: ParameterState, { key }: KeyedParameter, required: readonly string[]): void {
  for (const name of required) {
    if (values.get(name) != null) continue;
    throw stateDictError(
      `the state of ${key} lacks '${name}': it holds ${list([...values.keys()])}. It was cut off, or another class of ` +
        'optimizer wrote it.',
    );
  }
  for (const [name, value] of values) {
    if (name === 'step') checkStep(value, key);
    else if (value instanceof Tensor && !value.dtype.includes('float'))
      throw stateDictError(`expected floating-point numbers for '${name}' of ${key}, got ${value.dtype}.`);
    else if (required.includes(name) && !(value instanceof Tensor))
      throw stateDictError(`expected a tensor for '${name}' of ${key}, got ${describe(value)}.`);
  }
}

function checkStep(step: unknown, key: string): void {
  const isNumber = plainNumber(step) !== undefined;
  const value = isNumber || (step instanceof Tensor && step.numel() === 1) ? stepValue(step) : NaN;
  if (value >= 0 && Number.isFinite(value)) return;
  const got = Number.isNaN(value) ? describe(step) : String(value);
  throw stateDictError(`expected a number of updates for 'step' of ${key}, got ${got}.`);
}

function checkShapes(values: ParameterState, { key, rows, transpose }: KeyedParameter, shape: readonly number[]): void {
  const here = rows === undefined ? shape : [rows[1] - rows[0], ...shape.slice(1)];
  const expected = transpose === true ? [...here].reverse() : here;
  for (const [name, value] of values) {
    if (name === 'step' || !(value instanceof Tensor) || sameShape(value.shape, expected)) continue;
    throw stateDictError(
      `${name} for ${key} has shape ${size(value.shape)}, the parameter ${size(expected)}. ` +
        'The state belongs to another model, or to parameters in another order.',
    );
  }
}

/** The state of a parameter from that of its parts, which must have been updated together. */
function join(parts: readonly Part[], joinParts: (parts: Tensor[]) => Tensor): ParameterState | undefined {
  const present = parts.filter((part) => part.values !== undefined);
  if (present.length === 0) return undefined;
  const first = present[0]!;
  if (present.length < parts.length) {
    const absent = parts.find((part) => part.values === undefined)!;
    throw stateDictError(
      `there is state for ${first.line.key} but none for ${absent.line.key}. ` +
        'Here both are parts of one parameter, which is updated as a whole.',
    );
  }
  if (parts.length === 1 && !isPart(first.line)) return first.values;
  checkSteps(parts);
  const inOrder = [...parts].sort((a, b) => (a.line.rows?.[0] ?? 0) - (b.line.rows?.[0] ?? 0));
  return new Map(
    Array.from(first.values!, ([name, value]) => {
      if (name === 'step' || !(value instanceof Tensor)) return [name, value];
      return [name, joinParts(inOrder.map((part) => tensorOf(part, name)))];
    }),
  );
}

function checkSteps(parts: readonly Part[]): void {
  const [first, ...others] = parts;
  const expected = stepOf(first!);
  const other = others.find((part) => stepOf(part) !== expected);
  if (other === undefined) return;
  throw stateDictError(
    `${first!.line.key} was updated ${expected ?? 'an unknown number of'} times but ${other.line.key} ${stepOf(other) ?? 'an unknown number of'} times. ` +
      'Here both are parts of one parameter, which has one step count.',
  );
}

function stepOf({ values }: Part): number | undefined {
  return values!.has('step') ? stepValue(values!.get('step')) : undefined;
}

function tensorOf({ line, values }: Part, name: string): Tensor {
  const value = values!.get(name);
  if (value instanceof Tensor) return line.transpose === true ? value.t() : value;
  throw stateDictError(`${line.key} has no '${name}', which other parts of the same parameter here have.`);
}
