import { readStateDict } from '../../optim/optimizer';
import type { KeyedParameter } from './layout';

/**
 * How a file divides its parameters into groups, by the names of the parameters here; undefined where it has several
 * groups and does not name what is in them.
 */
export function groupsInFile(
  stateDict: ReadonlyMap<string, unknown>,
  table: readonly KeyedParameter[],
): string[][] | undefined {
  const { groups } = readStateDict(stateDict);
  if (groups.length === 1) return [[...new Set(table.map(({ parameter }) => parameter))]];
  const parameterOf = new Map(table.map(({ key, parameter }) => [key, parameter]));
  const named = groups.map(({ values }) => values.get('param_names') as unknown);
  if (!named.every((names): names is unknown[] => Array.isArray(names))) return undefined;
  const here = named.map((names) => names.map((name) => parameterOf.get(String(name))));
  if (!here.every((names): names is string[] => names.every((name) => name !== undefined))) return undefined;
  return here.map((names) => [...new Set(names)]);
}
