import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { openDistributed, readEntries } from '../../formats/dcp/load';
import type { Entry } from '../../formats/dcp/metadata';
import { distributedDirectory, isDistributed, metadataName } from '../../formats/dcp/place';
import { configToJson } from '../../models/config';
import { recogniseAdapted } from '../../models/layouts';
import { dispose } from '../../tensor/scope';
import { Tensor } from '../../tensor/tensor';
import { loadTokenizer } from '../../tokenizers';
import { adapterFields } from '../adapters';
import { writeDistributed } from '../distributed';
import { numberedOptimizer, optimizerAs, type OptimizerForm, optimizerFormOf } from '../distributed-optimizer';
import { bundleFiles, writeJson } from '../files';
import { partKeys } from '../part-keys';
import { factsFrom, plainFields, type ReadOptions, resolveTokenizer, savedDict, type SavedModel } from '../saved-model';
import { configBeside } from './state-dict';
import { configNames } from './training-dict';
import { type DirectoryProgram, Listing, type ModelFiles, withWeights, type WriteRequest } from './program';

/**
 * Checkpoints of `torch.distributed.checkpoint`, as FSDP and torchtitan write them. The model's state dict is at the root or under
 * `model`, and the optimizer's under `optimizer` or `optim`. Both may be inside an application object's dict (`app`).
 */
export const distributed: DirectoryProgram = {
  name: 'distributed',
  place: 'directory',
  container: 'distributed',
  holdsOptimizer: true,
  locate: (listing) => (isDistributed(listing.names) ? [filesIn(listing.directory)] : []),
  locateRun,
  locateFile: (file) => {
    const directory = distributedDirectory(file);
    return directory === undefined ? undefined : filesIn(directory);
  },
  read,
  write,
};

function filesIn(directory: string): ModelFiles {
  return { directory, weights: path.join(directory, metadataName), others: [] };
}

/** torchtitan's directories of a run, `step-500`; the newest first. One without metadata was not finished. */
async function locateRun({ directory, names }: Listing): Promise<ModelFiles[]> {
  const steps = names
    .flatMap((name) => /^step-(\d{1,15})$/.exec(name)?.[1] ?? [])
    .sort((a, b) => Number(b) - Number(a));
  const found: ModelFiles[] = [];
  for (const step of steps) {
    const inner = path.join(directory, `step-${step}`);
    if (isDistributed(await readdir(inner).catch(() => []))) found.push(filesIn(inner));
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

async function read({ directory }: ModelFiles, options: ReadOptions): Promise<SavedModel> {
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
    return await modelIn(read, file, hasOptimizer, options);
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
  return { ...saved, origin: { ...saved.origin, kept, hasOptimizer } };
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
  await withWeights(request, async (weights) => {
    const dict = new Map<string, unknown>(parts.weights === null ? weights : [[parts.weights, weights]]);
    if (optimizerState !== null) dict.set(parts.optimizer ?? 'optimizer', optimizerAs(parts.form, optimizerState));
    for (const [key, value] of others) dict.set(key, value);
    if (step !== null) dict.set(partKeys.step.find((key) => others.has(key)) ?? 'step', step);
    await writeDistributed(parts.outer === null ? dict : new Map([[parts.outer, dict]]), directory, {
      names: [bundleFiles.config, bundleFiles.tokenizer],
      write: async (staging) => {
        await writeJson(path.join(staging, bundleFiles.config), config);
        if (model.tokenizer !== null)
          await writeJson(path.join(staging, bundleFiles.tokenizer), model.tokenizer.toJson());
      },
    });
  });
}
