import path from 'node:path';
import { writeFileAtomically } from '../../formats/files/atomic-file';
import { save } from '../../formats/pt';
import { makeOptimizer, optimizerStateDict } from '../../models/optimizers';
import { recogniseAdapted } from '../../models/layouts';
import { Float, isPythonInt } from '../../pickle/types';
import { dispose } from '../../tensor/scope';
import {
  factsFrom,
  numberIn,
  plainFields,
  type ReadOptions,
  resolveConfig,
  resolveTokenizer,
  savedDict,
  type SavedModel,
} from '../saved-model';
import { CharTokenizer, charToMetaPickle, loadNanoGptTokenizer } from '../../tokenizers';
import { exists } from '../files';
import { type FileProgram, withWeights, type WriteRequest } from './program';

/** nanoGPT's ckpt.pt: a dict of model, optimizer, model_args, iter_num, best_val_loss and config. */

const modelArgs = {
  n_layer: 'nLayer',
  n_head: 'nHead',
  n_embd: 'nEmbd',
  block_size: 'blockSize',
  bias: 'bias',
  vocab_size: 'vocabSize',
  dropout: 'dropout',
} as const;

export const nanogpt: FileProgram = {
  name: 'nanogpt',
  place: 'file',
  families: ['nanogpt'],
  fileNames: ['ckpt.pt'],
  holdsOptimizer: true,
  recognise: (dict) => dict.get('model') instanceof Map && dict.get('model_args') instanceof Map,
  read,
  write,
};

async function read(file: string, dict: Map<string, unknown>, options: ReadOptions): Promise<SavedModel> {
  const weights = dict.get('model') as Map<string, unknown>;
  const recognised = recogniseAdapted(weights, 'nanogpt');
  const args = plainFields(dict.get('model_args'));
  const training = plainFields(dict.get('config'));
  // A dropout of fine-tuning may be in the config alone: model_args then keep what the model was first trained with.
  const said = { ...factsFrom(args, modelArgs), ...factsFrom(training, { batch_size: 'batchSize' }) };
  const config = resolveConfig(recognised, said, options);
  const { vocabSize } = config;
  const tokenizer = await resolveTokenizer(options, () =>
    loadNanoGptTokenizer(file, { vocabSize, dataset: training.dataset }),
  );
  return savedDict(
    { program: 'nanogpt', saw: "a dict of model, model_args and iter_num, as nanoGPT's train.py saves it", file },
    { dict, weights: 'model', optimizer: 'optimizer', step: 'iter_num' },
    { config, tokenizer, recognised },
  );
}

async function write(file: string, request: WriteRequest): Promise<void> {
  const { model, step, kept } = request;
  // train.py loads an optimizer's state whatever it resumes; that of one before its first step serves.
  const fresh = request.optimizerState === null ? optimizerStateDict(model, makeOptimizer(model)) : null;
  try {
    await withWeights(request, async (weights) => {
      const dict = new Map<string, unknown>([
        ['model', weights],
        ['optimizer', request.optimizerState ?? fresh],
        ['model_args', argsOf(request)],
        ['iter_num', step ?? numberIn(kept.get('iter_num')) ?? 0],
        ['best_val_loss', kept.get('best_val_loss') ?? new Float(1e9)],
        ['config', kept.get('config') ?? new Map()],
      ]);
      for (const [key, value] of kept) if (!dict.has(key)) dict.set(key, value);
      await save(dict, file);
    });
    if (model.tokenizer instanceof CharTokenizer) await writeMeta(file, model.tokenizer);
  } finally {
    dispose(fresh);
  }
}

/** Writes the vocabulary next to a checkpoint that lacks one. */
async function writeMeta(checkpoint: string, tokenizer: CharTokenizer): Promise<void> {
  const file = path.join(path.dirname(checkpoint), 'meta.pkl');
  if (await exists(file)) return;
  await writeFileAtomically(file, (handle) => handle.writeFile(charToMetaPickle(tokenizer)));
}

/** model_args as they came; of a model from elsewhere, from its config. */
function argsOf({ model, kept }: WriteRequest): Map<string, unknown> {
  const args = kept.get('model_args');
  if (args instanceof Map) return args as Map<string, unknown>;
  return new Map(
    Object.entries(modelArgs).map(([field, name]) => {
      const value = model.config[name];
      return [field, name === 'dropout' && isPythonInt(value as number) ? new Float(value as number) : value];
    }),
  );
}
