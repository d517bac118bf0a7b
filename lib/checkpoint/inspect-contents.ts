import type { FileInspection, TensorInfo } from '../formats/inspect/report';
import { type NamedNote, namedNotes, TensorNote } from '../formats/pt/tensor-notes';
import { TorchBindError } from '../errors';
import { layoutOrReason, recogniseAdapted, TensorFacts, ungathered } from '../models/layouts';
import { Float, InertObject, plainNumber } from '../pickle/types';
import { numberedOptimizer } from './distributed-optimizer';
import type { JsonObject } from './files';
import { configTypeOf } from './decoder-configs';
import { modelTypeOf } from './foreign';
import { partKeys, optimizerStateIn } from './part-keys';

/** What a file's tensors are for, found by the names that programs give to the parts of a checkpoint. */

/** The family of a model's weights. */
export interface FamilyInfo {
  /** The layout's name, as `detectLayout` gives it; null where the weights are of no family that is known. */
  name: string | null;
  /** What was seen, in words, and what it means; or why no family was recognised. */
  saw: string[];
}

/** What an optimizer's state dict holds. */
export interface OptimizerInfo {
  groups: {
    /** Learning rate; null where it is not a plain number. */
    lr: number | null;
    weightDecay: number | null;
    /** Number of parameters. */
    parameters: number;
    /** Whether the group names its parameters (`param_names`). */
    named: boolean;
  }[];
  /** Parameters that have state. */
  states: number;
  /** What a state is made of: `step`, `exp_avg`, `exp_avg_sq`. */
  parts: string[];
  /** Of the state's tensors but the steps; several where they differ. */
  dtypes: string[];
  /** Of the state's tensors together. */
  bytes: number;
}

/** What was found of a model in a file. */
export interface Contents {
  weights: ReadonlyMap<string, TensorFacts>;
  optimizer: OptimizerInfo | null;
  config: JsonObject | null;
  step: number | null;
}

/** Finds the parts of a checkpoint in a file. */
export function contentsOf({ value, tensors, metadata, container }: FileInspection): Contents {
  if (value instanceof InertObject) return { ...nothing, weights: noteFacts(namedNotes(value)) };
  if (!(value instanceof Map)) return { ...nothing, weights: withTied(infoFacts(tensors), metadata) };
  const isDistributed = container.kind === 'distributed';
  const root = isDistributed ? applicationIn(value) : (value as Map<unknown, unknown>);
  const optimizers = partKeys.optimizer.map((key) => optimizerStateIn(root.get(key)));
  const optimizer = [root, ...(isDistributed ? optimizers.map(numberedOptimizer) : optimizers)].find(isOptimizer);
  const config = partKeys.config.map((key) => root.get(key)).find((part) => part instanceof Map);
  const step = partKeys.step.map((key) => numberOf(root.get(key))).find((number) => number !== null);
  return {
    weights: root === optimizer ? nothing.weights : weightsIn(root),
    optimizer: optimizer === undefined ? null : optimizerInfo(optimizer),
    config: config === undefined ? null : (plainData(config) as JsonObject),
    step: step ?? null,
  };
}

/** The dict in which an application's object keeps the parts of a distributed checkpoint, where that is all at its root. */
function applicationIn(root: ReadonlyMap<unknown, unknown>): ReadonlyMap<unknown, unknown> {
  const [inner] = root.values();
  const isOuter =
    root.size === 1 && inner instanceof Map && partKeys.weights.some((key) => inner.get(key) instanceof Map);
  return isOuter ? inner : root;
}

const nothing: Contents = { weights: new Map(), optimizer: null, config: null, step: null };

function weightsIn(root: ReadonlyMap<unknown, unknown>): Map<string, TensorFacts> {
  for (const key of partKeys.weights) {
    const part = root.get(key);
    if (part instanceof Map && hasTensors(part)) return weightsIn(part);
    if (part instanceof InertObject) return noteFacts(namedNotes(part));
  }
  const notes: NamedNote[] = [];
  for (const [name, note] of root) if (note instanceof TensorNote) notes.push({ name: String(name), note });
  return noteFacts(notes);
}

function hasTensors(part: ReadonlyMap<unknown, unknown>): boolean {
  for (const item of part.values()) if (item instanceof TensorNote || item instanceof Map) return true;
  return false;
}

function noteFacts(notes: readonly NamedNote[]): Map<string, TensorFacts> {
  return new Map(
    notes.map(({ name, note: { shape, dtype, place } }) => {
      const identity = place === null ? null : `${place.storage.key}@${place.offset}`;
      return [name, new TensorFacts(shape, dtype.name, identity)];
    }),
  );
}

function infoFacts(tensors: readonly TensorInfo[]): Map<string, TensorFacts> {
  return new Map(
    tensors.map(({ name, shape, dtype }) => [name, new TensorFacts(shape, dtype as TensorFacts['dtype'], null)]),
  );
}

/** With the tensors that safetensors' `save_model` left out as tied, and named in the metadata. */
function withTied(
  weights: Map<string, TensorFacts>,
  metadata: Readonly<Record<string, string>>,
): Map<string, TensorFacts> {
  for (const [dropped, kept] of Object.entries(metadata)) {
    const facts = weights.get(kept);
    if (facts === undefined || weights.has(dropped)) continue;
    const shared = new TensorFacts(facts.shape, facts.dtype, facts.identity ?? kept);
    weights.set(kept, shared).set(dropped, shared);
  }
  return weights;
}

/**
 * Recognises the family of weights by their keys and shapes.
 *
 * @param config of a directory of Hugging Face, which says so of other models
 */
export function familyOf(
  weights: ReadonlyMap<string, TensorFacts>,
  config: JsonObject | null = null,
): FamilyInfo | null {
  if (weights.size === 0) return null;
  if (typeof config?.model_type === 'string' && config.model_type !== 'gpt2' && configTypeOf(config) === undefined) {
    return {
      name: null,
      saw: [`a config.json of model_type ${modelTypeOf(config)}, which torchbind does not compute`],
    };
  }
  const reason = ungathered(weights);
  if (reason !== undefined) return { name: null, saw: [`weights that were saved without being gathered: ${reason}`] };
  return adapterFamily(weights) ?? modelFamily(weights);
}

function modelFamily(weights: ReadonlyMap<string, TensorFacts>): FamilyInfo {
  try {
    const { layout, saw } = recogniseAdapted(weights);
    return { name: layout.name, saw: [layout.description, ...saw] };
  } catch (error) {
    if (!(error instanceof TorchBindError)) throw error;
    const found = layoutOrReason(weights);
    return { name: null, saw: [typeof found === 'string' ? found : error.message] };
  }
}

/** The family of the model that an adapter of PEFT, saved without the model, belongs to. */
function adapterFamily(weights: ReadonlyMap<string, TensorFacts>): FamilyInfo | undefined {
  const layers = new Map<string, number>();
  for (const [key, { shape }] of weights) {
    const [, layer] = /^base_model\.model\.(.*)\.lora_A(\.default)?\.weight$/.exec(key) ?? [];
    if (layer !== undefined) layers.set(layer, shape[0] ?? 0);
    if (!/^base_model\.model\..*\.(lora_[AB]|lora_embedding_[AB])\b/.test(key)) return undefined;
  }
  const [first] = layers;
  if (first === undefined) return undefined;
  const names: readonly [RegExp, string][] = [
    [/(^|\.)h\.\d+\.(attn\.c_|mlp\.c_)|(^|\.)lm_head$/, 'hf-gpt2'],
    [/\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)$/, 'hf-llama'],
  ];
  const saw = [`a LoRA adapter of PEFT of rank ${first[1]} for ${layers.size} layers (${first[0]}), without its model`];
  return { name: names.find(([pattern]) => pattern.test(first[0]))?.[1] ?? null, saw };
}

/** Masks are saved with some models and are none of their parameters. */
const mask = /(^|\.)(tril|masked_bias)$|(^|\.)attn\.bias$/;

/** Elements of a model's weights, tied ones once and masks not. */
export function countParameters(weights: ReadonlyMap<string, TensorFacts>): number {
  const seen = new Set<string>();
  let count = 0;
  for (const [name, { shape, identity }] of weights) {
    const isMask = mask.test(name) && shape.length !== 1;
    if (isMask || (identity !== null && seen.has(identity))) continue;
    if (identity !== null) seen.add(identity);
    count += shape.reduce((product, size) => product * size, 1);
  }
  return count;
}

function isOptimizer(value: unknown): value is ReadonlyMap<string, unknown> {
  return value instanceof Map && Array.isArray(value.get('param_groups')) && value.get('state') instanceof Map;
}

function optimizerInfo(stateDict: ReadonlyMap<string, unknown>): OptimizerInfo {
  const groups = (stateDict.get('param_groups') as unknown[]).filter((group) => group instanceof Map);
  const states = [...(stateDict.get('state') as Map<unknown, unknown>).values()].filter(
    (state) => state instanceof Map,
  );
  const parts = new Set<string>();
  const dtypes = new Set<string>();
  let bytes = 0;
  for (const state of states as Map<unknown, unknown>[]) {
    for (const [name, part] of state) {
      parts.add(String(name));
      if (!(part instanceof TensorNote)) continue;
      bytes += part.bytes;
      if (name !== 'step') dtypes.add(part.dtype.name);
    }
  }
  return {
    groups: (groups as Map<string, unknown>[]).map((group) => {
      const params: unknown = group.get('params');
      return {
        lr: numberOf(group.get('lr')),
        weightDecay: numberOf(group.get('weight_decay')),
        parameters: Array.isArray(params) ? params.length : 0,
        named: Array.isArray(group.get('param_names')),
      };
    }),
    states: states.length,
    parts: [...parts],
    dtypes: [...dtypes],
    bytes,
  };
}

function numberOf(value: unknown): number | null {
  return plainNumber(value) ?? null;
}

const maxDepth = 8;
const maxEntries = 1000;

/** Plain data of a pickle as JSON would hold it, as deep and as wide as a config is; the rest in words. */
function plainData(value: unknown, depth = 0): unknown {
  if (value === null || typeof value === 'boolean' || typeof value === 'string' || typeof value === 'number')
    return value;
  if (value instanceof Float) return value.value;
  if (value instanceof TensorNote) return `<tensor ${value.dtype.name} [${value.shape.join(', ')}]>`;
  if (typeof value !== 'object') return String(value);
  if (depth === maxDepth) return '…';
  if (value instanceof Map) {
    const entries: [string, unknown][] = [];
    for (const [key, item] of value as Map<unknown, unknown>) {
      if (entries.length === maxEntries) break;
      entries.push([String(key), plainData(item, depth + 1)]);
    }
    return Object.fromEntries(entries);
  }
  if (Array.isArray(value)) return value.slice(0, maxEntries).map((item) => plainData(item, depth + 1));
  return value instanceof InertObject ? `<${value.module}.${value.name}>` : `<${value.constructor.name}>`;
}
