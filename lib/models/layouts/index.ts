import { closest, TorchBindError } from '../../errors';
import type { Layout } from './layout';
import { mypt, ngLecture } from './lecture';

export type { Layout } from './layout';

const LAYOUTS: readonly Layout[] = [mypt, ngLecture];

/** Keys that tell families which cannot be read yet, so that a message can name them. */
const UNREADABLE: readonly [RegExp, string][] = [
  [/^(_orig_mod|module)\./, 'a compiled or DDP-wrapped model; save model._orig_mod or model.module instead'],
  [/\.(lora_A|lora_B|base_layer)\b/, 'a model with LoRA adapters'],
  [/^blocks\.0\.sa\.qkv\./, 'the later MyPT layout with fused attention'],
  [/^(transformer\.)?(h\.0\.attn\.c_attn\.|wte\.)/, 'nanoGPT, minGPT or Hugging Face GPT-2'],
];

/** The layout with a name. Throws `ERR_TORCHBIND_LAYOUT` when there is none. */
export function layoutByName(name: string): Layout {
  const layout = LAYOUTS.find((candidate) => candidate.name === name);
  if (layout !== undefined) return layout;
  const names = LAYOUTS.map((candidate) => candidate.name);
  const near = closest(name, names);
  const hint = near === undefined ? `Known layouts: ${names.join(', ')}.` : `Did you mean '${near}'?`;
  throw new TorchBindError(`There is no checkpoint layout '${name}'. ${hint}`, 'ERR_TORCHBIND_LAYOUT');
}

/**
 * The layout that the keys of a state dict are in.
 *
 * @throws ERR_TORCHBIND_LAYOUT saying what was seen, and what would have been recognised
 */
export function detectLayout(keys: Iterable<string>): Layout {
  const set = new Set(keys);
  const found = LAYOUTS.find((layout) => layout.matches(set));
  if (found !== undefined) return found;
  const all = [...set];
  const family = UNREADABLE.find(([pattern]) => all.some((key) => pattern.test(key)));
  const guess = family === undefined ? '' : ` It looks like ${family[1]}.`;
  const known = LAYOUTS.map(({ name, description }) => `'${name}' (${description})`).join('; ');
  throw new TorchBindError(
    `The state dict is in no layout that can be read.${guess} Its ${all.length} key(s) begin with ${all.slice(0, 4).join(', ')}. ` +
      `Layouts that can be read: ${known}.`,
    'ERR_TORCHBIND_LAYOUT',
  );
}
