import type { Recognised, StateView } from './family';
import { empty } from './layout';
import type { CheckpointLayout } from './layout';

/**
 * Prefixes that programs put before every key: `_orig_mod.` where the model was compiled, `module.` under
 * DistributedDataParallel or DataParallel, `model.` where it is an attribute of another module.
 */
const wrappers: readonly (readonly [string, string])[] = [
  ['_orig_mod.', 'a compiled model'],
  ['module.', 'a model in DistributedDataParallel'],
  ['model.', 'a model that is an attribute of another'],
];

/** Recognises a state dict below prefixes that all of its keys have. */
export function recogniseWrapped(
  state: StateView,
  recognise: (state: StateView) => Recognised | undefined,
): Recognised | undefined {
  const found = recognise(state);
  if (found !== undefined) return found;
  const { keys } = state;
  const wrapper = wrappers.find(([prefix]) => keys.length > 0 && keys.every((key) => key.startsWith(prefix)));
  if (wrapper === undefined) return undefined;
  const [prefix, meaning] = wrapper;
  const inner = recogniseWrapped(
    state.rename((key) => key.slice(prefix.length)),
    recognise,
  );
  if (inner === undefined) return undefined;
  const saw = [`'${prefix}' before every key: ${meaning}`, ...inner.saw];
  return { ...inner, layout: wrap(inner.layout, prefix), saw };
}

function wrap(layout: CheckpointLayout, prefix: string): CheckpointLayout {
  const outer = prefix.slice(0, -1);
  return {
    ...layout,
    modules: (config) => [
      empty(''),
      ...layout.modules(config).map((module) => ({
        ...module,
        path: module.path === '' ? outer : `${prefix}${module.path}`,
      })),
    ],
  };
}
