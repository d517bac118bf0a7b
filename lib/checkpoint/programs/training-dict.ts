import { save } from '../../formats/pt';
import { describe } from '../../errors';
import type { GPTConfig } from '../../models/config';
import { recogniseAdapted } from '../../models/layouts';
import { Tensor } from '../../tensor/tensor';
import { loadTokenizer } from '../../tokenizers';
import { optimizerStateIn, partKeys } from '../part-keys';
import { factsFrom, plainFields, type ReadOptions, savedDict, type SavedModel } from '../saved-model';
import { type FileProgram, withWeights, type WriteRequest } from './program';
import { configBeside } from './state-dict';

/**
 * The dicts in which people save a state dict with what training needs: PyTorch's tutorial (`model_state_dict`,
 * `optimizer_state_dict`), its ImageNet example (`state_dict`, `optimizer`, in `.pth.tar`), `{ model, optimizer }`,
 * DeepSpeed (`module`), Lightning (`state_dict`, `optimizer_states`). Each is written back under the keys that it has.
 */
export const trainingDict: FileProgram = {
  name: 'training-dict',
  place: 'file',
  fileNames: [],
  holdsOptimizer: true,
  recognise: (dict) => keyOfWeights(dict) !== undefined,
  read,
  write,
};

/** How such programs call what a model is made with. */
export const configNames: Readonly<Record<string, keyof GPTConfig>> = {
  n_layer: 'nLayer',
  n_head: 'nHead',
  n_embd: 'nEmbd',
  block_size: 'blockSize',
  vocab_size: 'vocabSize',
  dropout: 'dropout',
};

function keyOfWeights(dict: ReadonlyMap<string, unknown>): string | undefined {
  return partKeys.weights.find((key) => {
    const value = dict.get(key);
    return value instanceof Map && [...value.values()].some((item) => item instanceof Tensor);
  });
}

function firstOf(dict: ReadonlyMap<string, unknown>, keys: readonly string[]): string | undefined {
  return keys.find((key) => dict.has(key));
}

async function read(file: string, dict: Map<string, unknown>, options: ReadOptions): Promise<SavedModel> {
  const weights = keyOfWeights(dict)!;
  const optimizer = firstOf(dict, partKeys.optimizer);
  const step = firstOf(dict, partKeys.step);
  const recognised = recogniseAdapted(dict.get(weights) as Map<string, unknown>);
  const inside = partKeys.config.map((key) => dict.get(key)).find((value) => value instanceof Map);
  const said = factsFrom(plainFields(inside), configNames);
  const { config, hasConfig } = await configBeside(file, recognised, said, options);
  const tokenizer =
    options.tokenizer === undefined ? (hasConfig ? await loadTokenizer(file) : null) : options.tokenizer;
  const opened = optimizer === undefined ? dict : new Map(dict).set(optimizer, optimizerStateIn(dict.get(optimizer)));
  const saved = savedDict(
    { program: 'training-dict', saw: `a dict with a state dict under '${weights}'`, file },
    { dict: opened, weights, optimizer: optimizer ?? '', step: step ?? '' },
    { config, tokenizer, recognised },
  );
  const left = optimizer === undefined ? undefined : dict.get(optimizer);
  if (left == null || saved.optimizerState !== null) return saved;
  if (options.optimizer) {
    process.emitWarning(
      `${file}: the state of the optimizer under '${optimizer}' was left out: expected a dict of state and param_groups, ` +
        `or a list with one, got ${Array.isArray(left) ? `a list of ${left.length}` : describe(left)}.`,
      { code: 'TORCHBIND_LEFT_OUT' },
    );
  }
  return { ...saved, origin: { ...saved.origin, hasOptimizer: true } }; // Saving over the file would lose it.
}

async function write(file: string, request: WriteRequest): Promise<void> {
  const { kept, step, optimizerState } = request;
  const dict = new Map(kept);
  // Where the weights and the optimizer were there is null now; of a model from elsewhere, the tutorial's keys are taken.
  const weightsKey = partKeys.weights.find((key) => dict.get(key) === null) ?? 'model_state_dict';
  const optimizerKey = partKeys.optimizer.find((key) => dict.get(key) === null) ?? 'optimizer_state_dict';
  const stepKey = firstOf(dict, partKeys.step) ?? 'step';
  await withWeights(request, (weights) => {
    dict.set(weightsKey, weights);
    if (optimizerState !== null || dict.has(optimizerKey)) {
      const state =
        optimizerKey === 'optimizer_states' ? (optimizerState === null ? [] : [optimizerState]) : optimizerState;
      dict.set(optimizerKey, state);
    }
    if (step !== null) dict.set(stepKey, step);
    return save(dict, file);
  });
}
