import { noGrad } from '../tensor/autograd';
import { itemSize } from '../tensor/dtype';
import { native } from '../native/native';
import { copyTensors, equalTensors, isDense, type TensorPair, withoutCollections } from '../tensor/off-loop';
import { ownToken } from '../tensor/ownership';
import { Tensor } from '../tensor/tensor';
import { materialise, type Parameter, setData } from './parameter';
import {
  alignScalar,
  loadEntries,
  matchKeys,
  problemOfForm,
  requiredEqual,
  type StateEntry,
  throwProblems,
} from './state-dict';

/** A module, as far as loading its weights needs it. */
interface Loadable {
  parameters(): Parameter[];
  stateEntries(prefix: string): StateEntry[];
}

/**
 * Loads a state dict that nobody else holds into a module that nobody else holds, off the event loop. Values of the right
 * dtype and form become the module's own, without a copy; the caller disposes the state dict all the same.
 *
 * @throws as `loadEntries` does, before anything is changed
 */
export async function adoptEntries(
  module: Loadable,
  entries: StateEntry[],
  state: ReadonlyMap<string, unknown>,
): Promise<void> {
  const moduleName = module.constructor.name;
  if (![...state.values()].every((value) => !(value instanceof Tensor) || isDense(value))) {
    materialise(module.parameters());
    loadEntries(moduleName, module.stateEntries(''), state, true);
    return;
  }
  const { present, keys } = matchKeys(entries, state);
  const problems = present.map((entry) => problemOfForm(entry, state));
  const required = present.map((entry, i) => (problems[i] === undefined ? requiredEqual(entry, state) : []));
  const equal = await equalTensors(required.flat().map(({ pair }) => pair));
  let next = 0;
  required.forEach((pairs, i) => {
    for (const { problem } of pairs) if (!equal[next++]!) problems[i] ??= problem;
  });
  throwProblems(
    moduleName,
    problems.filter((problem) => problem !== undefined),
    keys,
  );
  const copies = noGrad(() =>
    withoutCollections(() => {
      const rest = adopt(present, state);
      // What is copied needs memory to be copied into, of which the entries are views.
      const current = materialise(module.parameters()) ? module.stateEntries('') : entries;
      return current
        .filter(({ key }) => rest.has(key))
        .map(({ key, tensor }): TensorPair => [tensor, alignScalar(state.get(key) as Tensor, tensor)]);
    }),
  );
  await copyTensors(copies);
}

/** Gives the module the values that it can have as they are. Returns the keys of the others, which must be copied. */
function adopt(entries: readonly StateEntry[], state: ReadonlyMap<string, unknown>): Set<string> {
  const used = new Set(entries.filter(({ aliasOf }) => aliasOf === undefined).map(({ key }) => state.get(key)));
  const rest = new Set<string>();
  // A tensor under a second name must not count as another holder.
  for (const { key, aliasOf } of entries) {
    const value = state.get(key) as Tensor;
    if (aliasOf !== undefined && !used.has(value)) value.dispose();
  }
  for (const { key, tensor, whole, constant, aliasOf } of entries) {
    if (constant === true || aliasOf !== undefined) continue;
    const value = state.get(key) as Tensor;
    if (whole !== undefined && canAdopt(tensor, value)) {
      setData(whole, value.detach());
      value.dispose();
      ownToken(whole);
    } else rest.add(key);
  }
  return rest;
}

/** Whether a value has the place of a tensor, and is all that its storage holds. */
export function canAdopt(tensor: Tensor, value: Tensor): boolean {
  const { dtype, device, shape } = tensor;
  if (value.dtype !== dtype || value.device !== device || value.ndim !== shape.length) return false;
  const { nbytes } = native().storageInfo(value.handle);
  return value.isContiguous() && nbytes === value.numel() * itemSize(dtype) && native().isSoleOwner(value.handle);
}
