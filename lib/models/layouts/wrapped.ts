import { Tensor } from '../../tensor/tensor';
import type { GPTConfig } from '../config';
import type { Recognised, StateView } from './family';
import { empty } from './layout';
import type { CheckpointLayout, LayoutBuffer, LayoutModule } from './layout';

/** Modules that PyTorch puts around a model or a part of it. Their names stay in the keys of a state dict. */
const wrapperNames: ReadonlyMap<string, string> = new Map([
  ['_orig_mod', 'a compiled model'],
  ['module', 'a model in DistributedDataParallel'],
  ['_fsdp_wrapped_module', 'a model in FullyShardedDataParallel'],
  ['_fpw_module', 'a model in FullyShardedDataParallel'],
  ['_checkpoint_wrapped_module', 'activation checkpointing'],
]);

/** The counter that `torch.optim.swa_utils.AveragedModel` keeps next to the model. */
const averagedCounter = 'n_averaged';

/**
 * Recognises a state dict whose keys carry the names of wrappers, anywhere in a key (`transformer.h.0._orig_mod.mlp...`),
 * or of the attribute that holds the model (`model.`, `net.`). The layout writes the same keys back.
 */
export function recogniseWrapped(
  state: StateView,
  recognise: (state: StateView) => Recognised | undefined,
): Recognised | undefined {
  const found = recognise(state);
  if (found !== undefined) return found;
  const { names, renamed } = withoutWrappers(state);
  const counter = counterOf(state);
  const isOneToOne = renamed.keys.length + (counter === undefined ? 0 : 1) === state.keys.length;
  const outer = isOneToOne ? unwrapped(renamed, recognise) : undefined;
  if (outer === undefined) return undefined;
  const layout = withPaths(outer.recognised.layout, pathsOf(state, outer.attributes), counter);
  return { ...outer.recognised, layout, saw: [...names.map((name) => seen(state, name)), ...outer.recognised.saw] };
}

/** The state dict under keys without wrappers' names, and the names that were found. */
function withoutWrappers(state: StateView): { names: string[]; renamed: StateView } {
  const names = new Set<string>();
  const renamed = state.rename((key) => {
    if (key === averagedCounter) return undefined;
    const segments = key.split('.');
    for (const segment of segments) if (wrapperNames.has(segment)) names.add(segment);
    return segments.filter((segment) => !wrapperNames.has(segment)).join('.');
  });
  return { names: [...names], renamed };
}

function counterOf(state: StateView): LayoutBuffer | undefined {
  if (!state.has(averagedCounter)) return undefined;
  const value = state.tensor(averagedCounter);
  return { name: averagedCounter, buffer: value instanceof Tensor ? Number(value.item()) : 0, dtype: 'int64' };
}

/** A model that is an attribute of another module, at any depth: all keys begin with its name. */
function unwrapped(
  state: StateView,
  recognise: (state: StateView) => Recognised | undefined,
): { recognised: Recognised; attributes: string[] } | undefined {
  const recognised = recognise(state);
  if (recognised !== undefined) return { recognised, attributes: [] };
  const prefix = /^\w+\./.exec(state.keys[0] ?? '')?.[0];
  if (prefix === undefined || !state.keys.every((key) => key.startsWith(prefix))) return undefined;
  const inner = unwrapped(
    state.rename((key) => key.slice(prefix.length)),
    recognise,
  );
  if (inner === undefined) return undefined;
  const saw = [`'${prefix}' before every key: a model that is an attribute of another`, ...inner.recognised.saw];
  return { recognised: { ...inner.recognised, saw }, attributes: [prefix.slice(0, -1), ...inner.attributes] };
}

function seen(state: StateView, name: string): string {
  const meaning = name === 'module' && state.has(averagedCounter) ? 'an AveragedModel' : wrapperNames.get(name)!;
  const isFirst = state.keys.every((key) => key === averagedCounter || key.startsWith(`${name}.`));
  return isFirst ? `'${name}.' before every key: ${meaning}` : `'${name}.' in keys: ${meaning}`;
}

/** For each module of the model, by its path without wrappers: its paths in the file, from the outermost wrapper in. */
function pathsOf(state: StateView, attributes: readonly string[]): Map<string, string[]> {
  const paths = new Map<string, Set<string>>();
  for (const key of state.keys) {
    const segments = key.split('.').slice(0, -1);
    for (let length = 0; length <= segments.length; length++) {
      const path = segments.slice(0, length);
      const clean = path.filter((segment) => !wrapperNames.has(segment)).slice(attributes.length);
      const name = clean.join('.');
      if (!paths.has(name)) paths.set(name, new Set());
      paths.get(name)!.add(path.join('.'));
    }
  }
  return new Map(Array.from(paths, ([name, found]) => [name, [...found].sort((a, b) => a.length - b.length)]));
}

/** A layout with each module where the file has it. Wrappers are modules without tensors of their own. */
function withPaths(
  layout: CheckpointLayout,
  paths: ReadonlyMap<string, string[]>,
  counter: LayoutBuffer | undefined,
): CheckpointLayout {
  const root = counter === undefined ? [] : [counter];
  const modules = (config: GPTConfig): LayoutModule[] =>
    layout.modules(config).flatMap((module) => {
      const found = placed(module.path, paths);
      return found.map((path, i) => ({ path, tensors: i === found.length - 1 ? module.tensors : [] }));
    });
  return {
    ...layout,
    modules: (config) =>
      modules(config).map((module, i) => (i === 0 ? { ...module, tensors: [...root, ...module.tensors] } : module)),
  };
}

/** The paths of a module. One without tensors has no key of its own: it is where its parent is. */
function placed(path: string, paths: ReadonlyMap<string, string[]>): string[] {
  const found = paths.get(path);
  if (found !== undefined) return found;
  const dot = path.lastIndexOf('.');
  const parent = placed(dot < 0 ? '' : path.slice(0, dot), paths).at(-1)!;
  const name = path.slice(dot + 1);
  return [parent === '' ? name : `${parent}.${name}`];
}

/** The layout of a model that is an attribute of another module. */
export function asAttribute(layout: CheckpointLayout, name: string): CheckpointLayout {
  return {
    ...layout,
    modules: (config) => [
      empty(''),
      ...layout
        .modules(config)
        .map((module) => ({ ...module, path: module.path === '' ? name : `${name}.${module.path}` })),
    ],
  };
}
