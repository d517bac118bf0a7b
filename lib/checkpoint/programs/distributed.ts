import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { openDistributed, readEntries } from '../../formats/dcp/load';
import type { Entry } from '../../formats/dcp/metadata';
import {
  accelerateNames,
  distributedDirectory,
  isDistributed,
  isOfAccelerate,
  metadataFiles,
  metadataName,
} from '../../formats/dcp/place';
import { configToJson } from '../../models/config';
import { recogniseAdapted } from '../../models/layouts';
import { dispose } from '../../tensor/scope';
import { Tensor } from '../../tensor/tensor';
import { loadTokenizer } from '../../tokenizers';
import { adapterFields } from '../adapters';
import { writeDistributed } from '../distributed';
import { numberedOptimizer, optimizerAs, type OptimizerForm, optimizerFormOf } from '../distributed-optimizer';
import { bundleFiles, exists, readOptionalJson, stepIn, writeJson, writeText } from '../files';
import { partKeys } from '../part-keys';
import { generationBeside, textFiles } from '../text-files';
import { factsFrom, plainFields, type ReadOptions, resolveTokenizer, savedDict, type SavedModel } from '../saved-model';
import { configBeside } from './state-dict';
import { configNames } from './training-dict';
import { type DirectoryProgram, Listing, type ModelFiles, withWeights, type WriteRequest } from './program';

/** Of transformers' Trainer: the number of updates. */
const trainerState = 'trainer_state.json';

/**
 * Checkpoints of `torch.distributed.checkpoint`, as FSDP and torchtitan write them. The model's state dict is at the root or under
 * `model`, and the optimizer's under `optimizer` or `optim`. Both may be inside an application object's dict (`app`).
 * accelerate and Trainer save the two as checkpoints of their own, next to each other.
 */
export const distributed: DirectoryProgram = {
  name: 'distributed',
  place: 'directory',
  container: 'distributed',
  holdsOptimizer: true,
  locate: (listing) => filesIn(listing),
  locateRun,
  locateFile: (file) => {
    const directory = distributedDirectory(file);
    return directory === undefined ? undefined : plainFiles(directory);
  },
  read,
  write,
};

function plainFiles(directory: string): ModelFiles {
  return { directory, weights: path.join(directory, metadataName), others: [] };
}

function filesIn({ directory, names }: Pick<Listing, 'directory' | 'names'>): ModelFiles[] {
  if (isDistributed(names)) return [plainFiles(directory)];
  if (!names.includes(accelerateNames.model) || !isOfAccelerate(directory)) return [];
  const state = names.find((name) => name === trainerState);
  return [{ directory, weights: directory, others: [], state }];
}

/**
 * Directories of a run, the newest first: `step-500` of torchtitan, `checkpoint-500` of Trainer and `checkpoint_500` of accelerate.
 * One without metadata was not finished.
 */
async function locateRun({ directory, names }: Listing): Promise<ModelFiles[]> {
  const steps = names
    .flatMap((name) => {
      const [, step] = /^(?:step-|checkpoint[-_])(\d{1,15})$/.exec(name) ?? [];
      return step === undefined ? [] : { name, step: Number(step) };
    })
    .sort((a, b) => b.step - a.step);
  const found: ModelFiles[] = [];
  for (const { name } of steps) {
    const inner = path.join(directory, name);
    found.push(...filesIn({ directory: inner, names: await readdir(inner).catch(() => []) }));
  }
  return found;
}

/** Where the parts of a model are in the dict. */
interface Parts {
  /** The one key that all is under; null for the root. */
  outer: string | null;
  /** Null for tensors besides the other parts. */
  weights: string | null;
  optimizer: string | null;
  form: OptimizerForm;
}

async function read({ directory, state }: ModelFiles, options: ReadOptions): Promise<SavedModel> {
  const file = path.join(directory, metadataName);
  const metadata = await openDistributed(directory);
  const optimizers: readonly string[] = partKeys.optimizer;
  const isOptimizer = ({ path: keys }: Entry): boolean =>
    keys.slice(0, 2).some((key) => optimizers.includes(String(key)));
  const hasOptimizer = metadata.entries.some(isOptimizer);
  const read = await readEntries(directory, metadata, {
    device: options.device,
    values: { exact: true, inert: options.unknown !== 'refuse' },
    wants: (entry) => options.optimizer || !isOptimizer(entry),
  });
  try {
    const step = stepIn(state === undefined ? undefined : await readOptionalJson(path.join(directory, state)));
    const { origin, training, ...model } = await modelIn(read, file, hasOptimizer, options);
    const kept = new Map(origin.kept).set('isOfAccelerate', metadataFiles(directory)[0] !== metadataName);
    return { ...model, training: { ...training, step: training.step ?? step }, origin: { ...origin, kept } };
  } catch (error) {
    dispose(read);
    throw error;
  }
}

async function modelIn(
  root: Map<string, unknown>,
  file: string,
  hasOptimizer: boolean,
  options: ReadOptions,
): Promise<SavedModel> {
  const { dict, parts } = partsOf(root);
  const { weights: key, optimizer } = parts;
  const weights = key === null ? tensorsOf(dict) : tensorsOf(dict.get(key) as Map<string, unknown>);
  const recognised = recogniseAdapted(weights);
  const inside = partKeys.config.map((name) => dict.get(name)).find((value) => value instanceof Map);
  const { config, hasConfig } = await configBeside(
    file,
    recognised,
    factsFrom(plainFields(inside), configNames),
    options,
  );
  const tokenizer = await resolveTokenizer(options, async () => (hasConfig ? loadTokenizer(file) : null));
  const others = new Map(
    [...dict].filter(([name, value]) => name !== key && name !== optimizer && !weights.has(name) && value !== weights),
  );
  const opened = new Map<string, unknown>(others).set('model', weights);
  if (optimizer !== null) opened.set('optimizer', numberedOptimizer(dict.get(optimizer)));
  const step = partKeys.step.find((name) => others.has(name));
  const trainState: unknown = others.get('train_state');
  if (step === undefined && trainState instanceof Map) opened.set('step', trainState.get('step'));
  const saved = savedDict(
    {
      program: 'distributed',
      saw: `a distributed checkpoint with a state dict ${key === null ? 'at its root' : `under '${key}'`}`,
      file: path.dirname(file),
    },
    { dict: opened, weights: 'model', optimizer: 'optimizer', step: step ?? 'step' },
    { config, tokenizer, recognised },
  );
  const kept = new Map<string, unknown>([
    ['parts', parts],
    ['others', others],
  ]);
  const generationConfig = hasConfig ? await generationBeside(file) : undefined;
  return { ...saved, generationConfig, origin: { ...saved.origin, kept, hasOptimizer } };
}

/** Finds the parts, in the root or in the one dict that the root holds. */
function partsOf(root: Map<string, unknown>): { dict: Map<string, unknown>; parts: Parts } {
  const [first] = root;
  const isOuter = root.size === 1 && first![1] instanceof Map && weightsKey(root) === null;
  const inner = isOuter ? (first![1] as Map<string, unknown>) : root;
  const dict = isOuter && weightsKey(inner) === null ? root : inner;
  const optimizer = partKeys.optimizer.find((key) => optimizerFormOf(dict.get(key)) !== undefined) ?? null;
  const form = (optimizer === null ? undefined : optimizerFormOf(dict.get(optimizer))) ?? 'names';
  return { dict, parts: { outer: dict === root ? null : first![0], weights: weightsKey(dict), optimizer, form } };
}

function weightsKey(dict: ReadonlyMap<string, unknown>): string | null {
  return (
    partKeys.weights.find((key) => {
      const value = dict.get(key);
      return value instanceof Map && tensorsOf(value as Map<string, unknown>).size > 0;
    }) ?? null
  );
}

function tensorsOf(dict: ReadonlyMap<string, unknown>): Map<string, unknown> {
  return new Map([...dict].filter(([, value]) => value instanceof Tensor));
}

/** With the config and the tokenizer next to it, which the parts do not say. */
async function write(directory: string, request: WriteRequest): Promise<void> {
  const { model, optimizerState, step, kept } = request;
  const parts = (kept.get('parts') as Parts | undefined) ?? {
    outer: null,
    weights: 'model',
    optimizer: null,
    form: 'names',
  };
  const others = (kept.get('others') as ReadonlyMap<string, unknown> | undefined) ?? new Map<string, unknown>();
  const config = { ...configToJson(model.config, model.layout.facts), ...adapterFields(model) };
  const files = await textFiles(model);
  // What is there may say more than the tokenizer here knows.
  if (await exists(path.join(directory, bundleFiles.tokenizerConfig))) files.delete(bundleFiles.tokenizerConfig);
  await withWeights(request, async (weights) => {
    const dict = new Map<string, unknown>(parts.weights === null ? weights : [[parts.weights, weights]]);
    const optimizer = new Map<string, unknown>();
    const isApart = kept.get('isOfAccelerate') === true;
    if (optimizerState !== null)
      (isApart ? optimizer : dict).set(parts.optimizer ?? 'optimizer', optimizerAs(parts.form, optimizerState));
    for (const [key, value] of others) dict.set(key, value);
    if (step !== null) dict.set(partKeys.step.find((key) => others.has(key)) ?? 'step', step);
    const whole = parts.outer === null ? dict : new Map([[parts.outer, dict]]);
    const inner = new Map([[isApart ? accelerateNames.model : '.', whole]]);
    if (optimizer.size > 0) inner.set(accelerateNames.optimizer, optimizer);
    await writeDistributed(inner, directory, {
      names: [bundleFiles.config, bundleFiles.tokenizer, ...files.keys()],
      write: async (staging) => {
        await writeJson(path.join(staging, bundleFiles.config), config);
        for (const [name, contents] of files) await writeText(path.join(staging, name), contents);
      },
    });
  });
}
