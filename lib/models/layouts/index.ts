import { checkArgument, checkIterable, closest, TorchBindError } from '../../errors';
import { type GPTConfig, plainDecoder } from '../config';
import { decoders } from './decoders';
import { StateView } from './family';
import type { Family, Recognised } from './family';
import { hfGpt2, mingpt, nanogpt } from './gpt2';
import type { CheckpointLayout } from './layout';
import { buildLlm, mypt, ngLecture } from './lecture';
import { splitLora } from './lora';
import { plain } from './plain';
import { quantized } from './quantized';
import { myptFused } from './mypt-fused';
import { checkGathered } from './ungathered';
import { recogniseWrapped } from './wrapped';

export { TensorFacts } from './tensor-facts';
export { ungathered } from './ungathered';
export type { ConfigFacts, Recognised } from './family';
export type { CheckpointLayout } from './layout';

const FAMILIES: readonly Family[] = [mypt, myptFused, ngLecture, buildLlm, nanogpt, mingpt, hfGpt2, ...decoders];

/** Families of torchbind's own files, which no program of others writes. */
const OWN: readonly Family[] = [plain, quantized];

/** Keys of models that are not opened as a GPT, so that a message can name them. */
const OTHERS: readonly [(keys: readonly string[]) => boolean, string][] = [
  [
    (keys) => keys.some((key) => /\.(lora_A|lora_B|base_layer)\b/.test(key)),
    'a model with LoRA adapters: open its file with GPT.load(path)',
  ],
  [
    (keys) => keys.length === 1 && keys[0] === 'token_embedding_table.weight',
    'a bigram model: open it with Bigram.load(path)',
  ],
  ...(
    [
      [/(^|\.)transformer\.h\.0\.attn\.c_q\.weight$/, 'nanochat'],
      [/(^|\.)h\.0\.attn\.c_attn\.weight$/, 'GPT-2 with queries, keys and values of sizes that are not known here'],
      [/(^|\.)h\.\d+\.attn\.(attention\.)?q_proj\.weight$/, 'GPT-J or GPT-Neo'],
      [/(^|\.)layers\.\d+\.(block_sparse_moe|mlp\.experts)\./, 'a mixture of experts'],
      [/(^|\.)(vision_tower|vision_model|visual|audio_tower)\./, 'one with a part for images or sound'],
      [
        /(^|\.)layers\.\d+\.(self_attn|attention)\./,
        'Llama, GPT-NeoX or OPT with names or parts that are not known here',
      ],
      [/(^|\.)h\.\d+\.(self_attention|attn)\.(query_key_value|Wqkv)\./, 'BLOOM or Falcon'],
      [/(^|\.)encoder\.layer\.\d+\.attention\./, 'BERT'],
      [/(^|\.)(encoder|decoder)\.block\.\d+\.layer\./, 'T5'],
    ] as const
  ).map(([pattern, name]): [(keys: readonly string[]) => boolean, string] => [
    (keys) => keys.some((key) => pattern.test(key)),
    `a model of the kind of ${name}, which torchbind does not compute`,
  ]),
];

/** Names of the families of checkpoints. */
export const layoutNames: readonly string[] = FAMILIES.map(({ name }) => name);

/** The usual layout of a family. Throws `ERR_TORCHBIND_LAYOUT` for an unknown family. */
export function layoutByName(name: string): CheckpointLayout {
  return familyByName(name).layout;
}

/** The layout that an option names, or is. */
export function resolveLayout(value: unknown, where: string): CheckpointLayout {
  if (typeof value === 'string') return layoutByName(value);
  const { name, facts, modules } = (value ?? {}) as Partial<Record<keyof CheckpointLayout, unknown>>;
  const isLayout = typeof name === 'string' && typeof facts === 'function' && typeof modules === 'function';
  checkArgument(isLayout, 'the name of a layout', value, where);
  return value as CheckpointLayout;
}

/** The config, of those that a family's own program computes, that is nearest to the one given. */
export function conformConfig(name: string, config: GPTConfig): GPTConfig {
  const { nHead, nEmbd } = config;
  const usual = { ...plainDecoder, nKvHead: nHead, headSize: nEmbd / nHead, ropeSize: nEmbd / nHead };
  const holdsAll = [...decoders, ...OWN].some((family) => family.name === name);
  return { ...config, ...(holdsAll ? {} : usual), ...familyByName(name).conform(config) };
}

function familyByName(name: string): Family {
  const family = [...FAMILIES, ...OWN].find((candidate) => candidate.name === name);
  if (family !== undefined) return family;
  checkArgument(typeof name === 'string', 'the name of a layout', name, 'GPT');
  const near = closest(name, layoutNames);
  const hint = near === undefined ? `Known layouts: ${layoutNames.join(', ')}.` : `Did you mean '${near}'?`;
  throw new TorchBindError(`Unknown checkpoint layout '${name}'. ${hint}`, 'ERR_TORCHBIND_LAYOUT');
}

/**
 * The layout of a state dict, with what was seen in it and what that says of the model. `state` may be keys alone where
 * these suffice.
 *
 * @param program the family whose program saved it, if the file says so: keys and values may leave it open
 * @throws ERR_TORCHBIND_LAYOUT saying what was seen, and what would have been recognised
 */
export function recogniseLayout(state: Iterable<string> | ReadonlyMap<string, unknown>, program?: string): Recognised {
  checkIterable(state, 'the keys of a state dict', 'detectLayout');
  const found = layoutOrReason(state, program);
  if (typeof found !== 'string') return found;
  const known = FAMILIES.map(({ name, description }) => `'${name}' (${description})`).join('; ');
  throw new TorchBindError(`${found} Layouts that can be read: ${known}.`, 'ERR_TORCHBIND_LAYOUT');
}

/** As `recogniseLayout`, or why no layout was recognised, in words. */
export function layoutOrReason(
  state: Iterable<string> | ReadonlyMap<string, unknown>,
  program?: string,
): Recognised | string {
  const view = new StateView(state, program);
  const found = recogniseWrapped(view, recogniseFamily);
  if (found !== undefined) return found;
  const { keys } = view;
  const other = OTHERS.find(([test]) => test(keys));
  const guess = other === undefined ? '' : ` It looks like ${other[1]}.`;
  return `The state dict is in no layout that can be read.${guess} Its ${keys.length} key(s) begin with ${keys.slice(0, 4).join(', ')}.`;
}

/** As `recogniseLayout`; of a state dict with LoRA adapters, the layout of the model without, and the adapters. */
export function recogniseAdapted(state: ReadonlyMap<string, unknown>, program?: string): Recognised {
  checkGathered(state);
  const lora = splitLora(state);
  if (lora === undefined) return recogniseLayout(state, program);
  const found = recogniseLayout(lora.base, program);
  const saw = `LoRA adapters of rank ${lora.rank} at ${lora.paths.size} layers (${[...lora.paths][0]}.lora_A)`;
  return { ...found, saw: [...found.saw, saw], lora };
}

function recogniseFamily(view: StateView): Recognised | undefined {
  for (const family of [...FAMILIES, ...OWN]) {
    const found = family.recognise(view);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The layout that a state dict, or where these suffice its keys, are in. Throws as `recogniseLayout` does. */
export function detectLayout(state: Iterable<string> | ReadonlyMap<string, unknown>): CheckpointLayout {
  return recogniseLayout(state).layout;
}
