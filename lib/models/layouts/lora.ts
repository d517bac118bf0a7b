import { closest, TorchBindError } from '../../errors';
import { sameShape } from '../../nn/state-dict';
import { Tensor } from '../../tensor/tensor';
import type { GPTConfig } from '../config';
import { TensorFacts } from './tensor-facts';
import { empty, isParameterLine } from './layout';
import type { CheckpointLayout, LayoutModule, LayoutParameter, LoraKeys, LoraSpec } from './layout';

/** State dicts of models with LoRA adapters: those of the model without, and a line for each adapter. */

const peftPrefix = 'base_model.model';

/** The layout of a model with adapters, from that of the model without. */
export function loraLayout(inner: CheckpointLayout, spec: LoraSpec): CheckpointLayout {
  const targets = new Set(spec.targets);
  const modules = (config: GPTConfig): LayoutModule[] =>
    inner.modules(config).flatMap((module) => {
      const weight = weightOf(module);
      const layer = weight === undefined ? undefined : layerOf(weight);
      return layer === undefined || !targets.has(layer) ? [module] : adapted(module, weight!, layer, spec);
    });
  return {
    ...inner,
    modules: spec.keys === 'peft' ? wrapped(modules) : modules,
    adapters: { spec, without: inner },
  };
}

function wrapped(modules: CheckpointLayout['modules']): CheckpointLayout['modules'] {
  return (config) => [
    empty(''),
    empty('base_model'),
    ...modules(config).map((module) => ({
      ...module,
      path: module.path === '' ? peftPrefix : `${peftPrefix}.${module.path}`,
    })),
  ];
}

function weightOf({ tensors }: LayoutModule): LayoutParameter | undefined {
  return tensors.filter(isParameterLine).find(({ name }) => name === 'weight');
}

/** The layer here that a weight of a file belongs to; a weight that stands for another too is the head's. */
function layerOf({ parameter, alias }: LayoutParameter): string {
  return alias === true ? 'lmHead' : parameter.replace(/\.weight$/, '');
}

function adapted(module: LayoutModule, weight: LayoutParameter, layer: string, spec: LoraSpec): LayoutModule[] {
  const { path } = module;
  const { rank, keys } = spec;
  const slot = slotOf(weight);
  const base = { ...module, path: `${path}.base_layer` };
  const transpose = keys === 'plain';
  const a = {
    parameter: `${layer}.loraA`,
    transpose,
    ...(weight.rows && { rows: [slot * rank, (slot + 1) * rank] as const }),
  };
  const b = { parameter: `${layer}.loraB`, transpose, ...(weight.rows && { rows: weight.rows }) };
  if (keys !== 'peft') {
    const tensors = [
      { name: 'lora_A', ...a },
      { name: 'lora_B', ...b },
    ];
    return [{ path, tensors }, base, empty(`${path}.dropout`)];
  }
  return [
    empty(path),
    base,
    empty(`${path}.lora_dropout`),
    empty(`${path}.lora_dropout.default`),
    empty(`${path}.lora_A`),
    { path: `${path}.lora_A.default`, tensors: [{ name: 'weight', ...a }] },
    empty(`${path}.lora_B`),
    { path: `${path}.lora_B.default`, tensors: [{ name: 'weight', ...b }] },
    empty(`${path}.lora_embedding_A`),
    empty(`${path}.lora_embedding_B`),
    empty(`${path}.lora_magnitude_vector`),
  ];
}

/** Index of this parameter among the equal parts of a fused weight. */
function slotOf({ rows }: LayoutParameter): number {
  return rows === undefined ? 0 : rows[0] / (rows[1] - rows[0]);
}

/** For each layer of the model here, the number of the family's layers that it joins: three for separate query, key and value. */
export function adapterSlots(layout: CheckpointLayout, config: GPTConfig): Map<string, number> {
  const slots = new Map<string, number>();
  for (const module of layout.modules(config)) {
    const weight = weightOf(module);
    if (weight !== undefined) slots.set(layerOf(weight), (slots.get(layerOf(weight)) ?? 0) + 1);
  }
  return slots;
}

/** The layers here that have adapters in a state dict with these paths of adapted modules. */
export function adaptedLayers(layout: CheckpointLayout, config: GPTConfig, paths: ReadonlySet<string>): string[] {
  const found = layout.modules(config).flatMap((module) => {
    const weight = weightOf(module);
    return weight !== undefined && paths.has(module.path) ? [layerOf(weight)] : [];
  });
  return [...new Set(found)];
}

/** The layers whose names are, or end in, one of the targets. Throws for a target that is not one. */
export function matchTargets(layers: readonly string[], targets: readonly string[]): string[] {
  const matches = (target: string): string[] =>
    layers.filter((layer) => layer === target || layer.endsWith(`.${target}`));
  const none = targets.length === 0 ? '' : targets.find((target) => matches(target).length === 0);
  if (none === undefined) return layers.filter((layer) => targets.some((target) => matches(target).includes(layer)));
  const kinds = [...new Set(layers.map((layer) => layer.replace(/^blocks\.\d+\./, '')))];
  const near = closest(none, kinds);
  const hint = near === undefined ? `The layers are ${kinds.join(', ')}.` : `Did you mean '${near}'?`;
  throw new TorchBindError(
    `applyLora: targets names ${none === '' ? 'no layer' : `'${none}', which is not a layer`} of this model. ${hint}`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

/** A state dict with adapters, taken apart. */
export interface LoraState {
  /** The entries of the model without adapters, under the keys that they would have there. */
  base: Map<string, unknown>;
  /** Paths of the modules with adapters, as they are in that model. */
  paths: ReadonlySet<string>;
  rank: number;
  keys: LoraKeys;
}

/**
 * Takes a state dict with keys `lora_A`, `lora_B` and `base_layer` apart; undefined where it has none.
 *
 * @throws ERR_TORCHBIND_LAYOUT where the adapters' shapes do not fit
 */
export function splitLora(state: ReadonlyMap<string, unknown>): LoraState | undefined {
  const stem = `${peftPrefix}.`;
  const peft = [...state.keys()].every((key) => String(key).startsWith(stem));
  const base = new Map<string, unknown>();
  const paths = new Set<string>();
  for (const [key, value] of state) {
    const own = peft ? key.slice(stem.length) : String(key);
    const path = /^(.*)\.lora_[AB](\.default\.weight)?$/.exec(own)?.[1];
    if (path === undefined) base.set(own.replace('.base_layer.', '.'), value);
    else paths.add(path);
  }
  if (paths.size === 0) return undefined;
  const [before, after] = peft ? [stem, '.default.weight'] : ['', ''];
  const adapters = [...paths].map((path) => readAdapter(state, `${before}${path}`, after));
  const keys = peft ? 'transposed' : adapters.find((adapter) => adapter.keys !== undefined)?.keys;
  if (keys === undefined) throw refuse('their shapes do not tell (in, r) from (r, in)');
  if (adapters.some((adapter) => adapter.keys !== undefined && adapter.keys !== keys))
    throw refuse('some are (in, r) and others (r, in)');
  const ranks = new Set(adapters.map(({ shape }) => shape[keys === 'plain' ? 1 : 0]!));
  const [rank] = ranks;
  if (ranks.size !== 1) throw refuse(`they have several ranks: ${[...ranks].join(', ')}`);
  return { base, paths, rank: rank!, keys: peft ? 'peft' : keys };
}

/** The shape of a module's `lora_A`, and which of the keys it tells: of square layers with r = in, none. */
interface Adapter {
  shape: readonly number[];
  keys?: 'plain' | 'transposed';
}

function readAdapter(state: ReadonlyMap<string, unknown>, path: string, suffix: string): Adapter {
  const shapeOf = (name: string): readonly [number, number] => {
    const value = state.get(`${path}.${name}`);
    if ((value instanceof Tensor || value instanceof TensorFacts) && value.ndim === 2)
      return value.shape as [number, number];
    throw refuse(`found no matrix ${path}.${name}`);
  };
  const weight = shapeOf('base_layer.weight');
  const [a, b] = [shapeOf(`lora_A${suffix}`), shapeOf(`lora_B${suffix}`)];
  const joins = (input: number, output: number): boolean =>
    sameShape([input, output], weight) || sameShape([output, input], weight);
  const plain = a[1] === b[0] && joins(a[0], b[1]);
  const transposed = a[0] === b[1] && joins(a[1], b[0]);
  if (!plain && !transposed) {
    const shapes = [a, b, weight].map((shape) => `(${shape.join(', ')})`);
    throw refuse(`${path} has lora_A ${shapes[0]} and lora_B ${shapes[1]}, which do not fit its weight ${shapes[2]}`);
  }
  return plain && transposed ? { shape: a } : { shape: a, keys: plain ? 'plain' : 'transposed' };
}

function refuse(reason: string): TorchBindError {
  return new TorchBindError(`The state dict has LoRA adapters that cannot be read: ${reason}.`, 'ERR_TORCHBIND_LAYOUT');
}
