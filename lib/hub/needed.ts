import { hfCompanions } from '../checkpoint/programs/hf-gpt2';
import { releaseFile, sumsFile } from '../checkpoint/programs/release';

/** Which files of a repository a model needs, by their names. */

/** Small files that go with the weights. */
const companions = [
  ...hfCompanions.filter((name) => name !== 'README.md'),
  'tokenizer.model',
  'chat_template.json',
  'meta.pkl',
  'adapter_config.json',
  releaseFile,
  sumsFile,
];

/** In the order of preference: what comes first is taken alone. */
const weights = [
  'model.safetensors',
  'model.safetensors.index.json',
  'adapter_model.safetensors',
  'pytorch_model.bin',
  'pytorch_model.bin.index.json',
  'adapter_model.bin',
  'model.pt',
  'ckpt.pt',
];

/** The names to fetch at first; none for a repository without weights that are read here. */
export function neededNames(names: ReadonlySet<string>): { weights: string; companions: string[] } | undefined {
  const found = weights.find((name) => names.has(name));
  return found === undefined ? undefined : { weights: found, companions: companions.filter((name) => names.has(name)) };
}

/** The files that an index names. */
export function shardsIn(index: unknown): string[] {
  const map = (index as { weight_map?: unknown } | null)?.weight_map;
  const shards = typeof map === 'object' && map !== null ? [...new Set(Object.values(map) as unknown[])] : [];
  // What is not a plain name is refused where the index is read.
  return shards.filter(
    (name): name is string => typeof name === 'string' && /^[A-Za-z0-9_][A-Za-z0-9._-]*$/.test(name),
  );
}

export function isIndex(name: string): boolean {
  return name.endsWith('.index.json');
}
