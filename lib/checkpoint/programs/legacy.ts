import { load } from '../../formats/pt';
import { type Tokenizer, tokenizerFromJson } from '../../tokenizers';
import {
  commonDType,
  mapIn,
  numberIn,
  plain,
  plainFields,
  type ReadOptions,
  recogniseIn,
  resolveJsonConfig,
  type SavedModel,
  wrong,
} from '../saved-model';

/** Files of a model's directory that hold everything in one, in the order in which they are looked for. */
export const legacyFiles = {
  resume: ['latest.pt'],
  inference: ['latest.pt', 'final.pt'],
  init: ['final.pt', 'latest.pt'],
};

/**
 * Reads a checkpoint of a single file: a dict of `model_state_dict` and `config`, and of `tokenizer`, `step` and
 * `optimizer_state_dict` where these were saved.
 *
 * @throws CheckpointError ERR_TORCHBIND_CHECKPOINT_FORMAT naming the keys that are missing
 */
export async function readLegacy(file: string, options: ReadOptions): Promise<SavedModel> {
  return legacyFrom(file, mapIn(file, await load(file, { device: options.device, exact: true })), options);
}

/** The model in such a dict. */
export function legacyFrom(file: string, dict: Map<string, unknown>, options: ReadOptions): SavedModel {
  const missing = ['model_state_dict', 'config'].filter((key) => !(dict.get(key) instanceof Map));
  if (missing.length > 0) {
    throw wrong(
      file,
      `a single-file checkpoint needs the dicts model_state_dict and config, but ${missing.join(' and ')} ` +
        `is missing. Its keys are ${[...dict.keys()].slice(0, 8).join(', ')}.`,
    );
  }
  const weights = dict.get('model_state_dict') as Map<string, unknown>;
  const recognised = recogniseIn(file, weights);
  const optimizerState = dict.get('optimizer_state_dict');
  return {
    config: resolveJsonConfig(`${file} (config)`, plainFields(dict.get('config')), recognised, options),
    tokenizer: options.tokenizer === undefined ? tokenizerIn(dict, file) : options.tokenizer,
    weights,
    recognised,
    training: { step: numberIn(dict.get('step')), optimizerFile: null, run: null, extra: {} },
    optimizerState: optimizerState instanceof Map ? (optimizerState as Map<string, unknown>) : null,
    origin: {
      form: 'single-file',
      path: file,
      saw: ['a dict of model_state_dict and config', ...recognised.saw],
      dtype: commonDType(weights),
      kept: without(dict, ['model_state_dict', 'optimizer_state_dict']),
      hasOptimizer: optimizerState instanceof Map,
    },
  };
}

function tokenizerIn(dict: ReadonlyMap<string, unknown>, file: string): Tokenizer | null {
  const json = plain(dict.get('tokenizer') ?? null);
  return json === null ? null : tokenizerFromJson(json, `${file} (tokenizer)`);
}

/** A dict's other entries; these keep their places. */
export function without(dict: ReadonlyMap<string, unknown>, keys: readonly string[]): Map<string, unknown> {
  return new Map(Array.from(dict, ([key, value]) => [key, keys.includes(key) ? null : value]));
}
