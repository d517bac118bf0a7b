import { load, save } from '../../formats/pt';
import { withPath } from '../../errors';
import { configToJson } from '../../models/config';
import { recogniseAdapted } from '../../models/layouts';
import { type Tokenizer, tokenizerFromJson } from '../../tokenizers';
import {
  formatError,
  mapIn,
  plain,
  plainFields,
  type ReadOptions,
  resolveJsonConfig,
  savedDict,
  type SavedModel,
} from '../saved-model';
import { type FileProgram, withWeights, type WriteRequest } from './program';

/**
 * MyPT's first program: a dict of `model_state_dict` and `config`, and of `tokenizer`, `step` and `optimizer_state_dict` where
 * these were saved.
 */

/** Files of a model's directory that hold everything in one, in the order in which they are looked for. */
export const legacyFiles = {
  resume: ['latest.pt'],
  inference: ['latest.pt', 'final.pt'],
  init: ['final.pt', 'latest.pt'],
};

export const legacy: FileProgram = {
  name: 'single-file',
  place: 'file',
  fileNames: legacyFiles.inference,
  holdsOptimizer: true,
  recognise: (dict) => dict.get('model_state_dict') instanceof Map && dict.get('config') instanceof Map,
  read: legacyFrom,
  write,
};

/**
 * Reads a file as a single-file checkpoint, even if `GPT.load` would recognise another format.
 *
 * @throws CheckpointError ERR_TORCHBIND_CHECKPOINT_FORMAT naming the keys that are missing
 */
export function readLegacy(file: string, options: ReadOptions): Promise<SavedModel> {
  return withPath(file, async () =>
    legacyFrom(file, mapIn(await load(file, { device: options.device, exact: true })), options),
  );
}

function legacyFrom(file: string, dict: Map<string, unknown>, options: ReadOptions): SavedModel {
  const missing = ['model_state_dict', 'config'].filter((key) => !(dict.get(key) instanceof Map));
  if (missing.length > 0) {
    throw formatError(
      `a single-file checkpoint needs the dicts model_state_dict and config, but ${missing.join(' and ')} ` +
        `is missing. Its keys are ${[...dict.keys()].slice(0, 8).join(', ')}.`,
    );
  }
  const weights = dict.get('model_state_dict') as Map<string, unknown>;
  const recognised = recogniseAdapted(weights);
  return savedDict(
    { program: 'single-file', saw: 'a dict of model_state_dict and config', file },
    { dict, weights: 'model_state_dict', optimizer: 'optimizer_state_dict', step: 'step' },
    {
      config: withPath(`${file} (config)`, () =>
        resolveJsonConfig(plainFields(dict.get('config')), recognised, options),
      ),
      tokenizer: options.tokenizer === undefined ? tokenizerIn(dict, file) : options.tokenizer,
      recognised,
    },
  );
}

function tokenizerIn(dict: ReadonlyMap<string, unknown>, file: string): Tokenizer | null {
  const json = plain(dict.get('tokenizer') ?? null);
  return json === null ? null : tokenizerFromJson(json, `${file} (tokenizer)`);
}

async function write(file: string, request: WriteRequest): Promise<void> {
  const { model, step, optimizerState, kept } = request;
  await withWeights(request, (weights) =>
    save(
      new Map<string, unknown>([
        ['model_state_dict', weights],
        ['config', kept.get('config') ?? configToJson(model.config, model.layout.facts)],
        ['tokenizer', kept.get('tokenizer') ?? model.tokenizer?.toJson() ?? null],
        ['step', step],
        ['optimizer_state_dict', optimizerState],
      ]),
      file,
    ),
  );
}
