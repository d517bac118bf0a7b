import { load } from '../formats/pt';
import { CheckpointCode, CheckpointError } from '../formats/errors';
import { configFromJson } from '../models/config';
import { tokenizerFromJson } from '../tokenizers';
import { inFile, mapIn, type ReadOptions, type SavedModel } from './bundle';
import type { JsonObject } from './files';

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
  const dict = mapIn(file, await load(file, { device: options.device, exact: true }));
  const missing = ['model_state_dict', 'config'].filter((key) => !(dict.get(key) instanceof Map));
  if (missing.length > 0) {
    throw new CheckpointError(
      `${file}: a single-file checkpoint needs the dicts model_state_dict and config, but ${missing.join(' and ')} ` +
        `is missing. Its keys are ${[...dict.keys()].slice(0, 8).join(', ')}.`,
      CheckpointCode.format,
    );
  }
  const tokenizer = plain(dict.get('tokenizer') ?? null);
  const step = plain(dict.get('step') ?? null);
  const optimizerState = dict.get('optimizer_state_dict');
  return {
    config: inFile(`${file} (config)`, configFromJson, plain(dict.get('config'))),
    tokenizer: tokenizer === null ? null : tokenizerFromJson(tokenizer, `${file} (tokenizer)`),
    weights: dict.get('model_state_dict') as Map<string, unknown>,
    training: { step: typeof step === 'number' ? step : null, optimizerFile: null, run: null, extra: {} },
    optimizerState: optimizerState instanceof Map ? (optimizerState as Map<string, unknown>) : null,
  };
}

/** Python's plain data as JSON would hold it. */
function plain(value: unknown): unknown {
  const json = JSON.stringify(value, (_, item: unknown) =>
    item instanceof Map ? (Object.fromEntries(item) as JsonObject) : item,
  );
  return JSON.parse(json) as unknown;
}
