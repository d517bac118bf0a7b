import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { readSmallFile } from '../../formats/files/small-file';
import { writeFileAtomically } from '../../formats/files/atomic-file';
import { CheckpointCode, CheckpointError } from '../../errors';
import { load, save } from '../../formats/pt';
import { dispose } from '../../tensor/scope';
import { exists, readText } from '../files';
import { replaceDirectory } from '../replace-directory';
import { mapIn, type ReadOptions, type SavedModel } from '../saved-model';
import type { ModelToWrite } from './program';
import { hfCompanions, readHfGpt2, writeHfGpt2 } from './hf-gpt2';
import { findHfWeights, isHfWeightsName } from './hf-weights';
import { parseTrainerState, schedulerAt, type TrainerState, trainerStateAt } from './trainer-state';

/**
 * `checkpoint-N` of Hugging Face's Trainer: a directory of the model, and beside it what resuming needs. Trainer writes
 * trainer_state.json last, so that a directory without it is incomplete.
 */

const stateFile = 'trainer_state.json';
const optimizerFile = 'optimizer.pt';
const schedulerFile = 'scheduler.pt';
const checkpointName = /^checkpoint-(\d+)$/;

/** Files that are kept byte for byte, never read: arguments as an object of Trainer's, the gradient scaler, random numbers. */
const isKept = (name: string): boolean =>
  name === 'training_args.bin' || name === 'scaler.pt' || /^rng_state(_\d+)?\.pth$/.test(name);

/** Whether a file is one that Trainer writes into a checkpoint, and that another checkpoint replaces. */
const isTrainers = (name: string): boolean =>
  [stateFile, optimizerFile, schedulerFile, ...hfCompanions].includes(name) || isKept(name) || isHfWeightsName(name);

/** What writing back needs beside the model. */
interface Kept {
  state: TrainerState;
  scheduler: ReadonlyMap<string, unknown> | undefined;
  files: ReadonlyMap<string, Buffer>;
}

/** Whether a directory is a checkpoint of Trainer's, or the model that it saved at its end. */
export function isHfTrainer(directory: string): Promise<boolean> {
  return exists(path.join(directory, stateFile));
}

/** Reads the checkpoint that a file of weights, or its index, is in. */
export async function readHfTrainer(weights: string, options: ReadOptions): Promise<SavedModel> {
  const directory = path.dirname(weights);
  const at = (name: string): string => path.join(directory, name);
  const state = parseTrainerState(at(stateFile), await readText(at(stateFile)));
  const hasOptimizer = await exists(at(optimizerFile));
  const model = await readHfGpt2(weights, options);
  try {
    const readDict = async (name: string): Promise<Map<string, unknown> | undefined> => {
      if (!options.optimizer || !(await exists(at(name)))) return undefined;
      return mapIn(at(name), await load(at(name), { device: options.device, exact: true }));
    };
    const kept: Kept = { state, scheduler: await readDict(schedulerFile), files: await readKept(directory) };
    const optimizerState = (await readDict(optimizerFile)) ?? null;
    return {
      ...model,
      training: { ...model.training, step: state.step },
      optimizerState,
      origin: {
        ...model.origin,
        form: 'hf-trainer',
        saw: [`a ${stateFile} of global_step ${state.step}`, ...model.origin.saw],
        kept: new Map([...model.origin.kept, ['trainer', kept]]),
        hasOptimizer,
      },
    };
  } catch (error) {
    dispose(model.weights);
    throw error;
  }
}

async function readKept(directory: string): Promise<Map<string, Buffer>> {
  const names = (await readdir(directory)).filter(isKept);
  const files = names.map(async (name) => [name, await readSmallFile(path.join(directory, name))] as const);
  return new Map(await Promise.all(files));
}

/** A checkpoint among others in Trainer's output directory. */
interface Candidate {
  step: number;
  directory: string;
}

/** The checkpoints in Trainer's output directory, that of the most updates first; whether they are complete is not asked. */
export async function listTrainerCheckpoints(output: string): Promise<Candidate[]> {
  const entries = await readdir(output, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  const found = new Map<string, string>();
  for (const name of names) if (checkpointName.test(name)) found.set(name, name);
  // A crash may have left one under its name for the time of replacing.
  for (const name of names) {
    const [, own] = /^\.(.*)\.replaced$/.exec(name) ?? [];
    if (own !== undefined && checkpointName.test(own) && !found.has(own)) found.set(own, name);
  }
  return Array.from(found, ([own, name]) => ({
    step: Number(checkpointName.exec(own)![1]),
    directory: path.join(output, name),
  })).sort((a, b) => b.step - a.step);
}

/**
 * Reads the last complete checkpoint; a warning names those that were passed over.
 *
 * @throws CheckpointError of the last one where none is complete
 */
export async function readLastCheckpoint(candidates: readonly Candidate[], options: ReadOptions): Promise<SavedModel> {
  const problems: CheckpointError[] = [];
  for (const { directory } of candidates) {
    try {
      const model = await readHfTrainer(await completeWeights(directory), options);
      const saw = `${path.basename(directory)}, the last complete one of ${candidates.length} checkpoint(s)`;
      if (problems.length > 0) {
        const skipped = problems.map(({ message }) => message).join('; ');
        process.emitWarning(`${skipped}. Opened ${directory} instead.`, { code: 'TORCHBIND_FALLBACK' });
      }
      return { ...model, origin: { ...model.origin, saw: [saw, ...model.origin.saw] } };
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error;
      problems.push(error);
    }
  }
  throw problems[0]!;
}

async function completeWeights(directory: string): Promise<string> {
  const weights = await findHfWeights(directory);
  if (weights !== undefined && (await isHfTrainer(directory))) return weights;
  const missing =
    weights === undefined ? 'model.safetensors or pytorch_model.bin' : `${stateFile}, which is written last`;
  throw new CheckpointError(`${directory} is not complete: it has no ${missing}`, CheckpointCode.open);
}

/**
 * Writes a checkpoint for Trainer to resume from. Without an optimizer, with which Trainer would begin anew unasked, a
 * directory of the model alone.
 */
export async function writeHfTrainer(target: string, request: ModelToWrite): Promise<void> {
  const { optimizerState, kept } = request;
  if (optimizerState === null) {
    const write = (directory: string): Promise<void> => writeHfGpt2(directory, request);
    return (await isHfTrainer(target)) ? replaceDirectory(target, write, isTrainers) : write(target);
  }
  const trainer = kept.get('trainer') as Kept;
  const step = request.step ?? trainer.state.step;
  const place = await checkpointIn(target, step);
  await replaceDirectory(
    place,
    async (directory) => {
      await writeHfGpt2(directory, request);
      await writeTraining(directory, trainer, optimizerState, step);
    },
    isTrainers,
  );
}

/** A checkpoint's own directory; within one that holds other things, as Trainer's output directory, `checkpoint-N`. */
async function checkpointIn(target: string, step: number): Promise<string> {
  const names = await readdir(target).catch((): string[] => []);
  const isOwn = names.length === 0 || names.includes(stateFile) || checkpointName.test(path.basename(target));
  return isOwn ? target : path.join(target, `checkpoint-${step}`);
}

async function writeTraining(
  directory: string,
  { state, scheduler, files }: Kept,
  optimizerState: ReadonlyMap<string, unknown>,
  step: number,
): Promise<void> {
  const at = (name: string): string => path.join(directory, name);
  const text = trainerStateAt(stateFile, state, step);
  await save(optimizerState, at(optimizerFile));
  await save(schedulerAt(scheduler, optimizerState, { before: state.step, step }), at(schedulerFile));
  for (const [name, bytes] of files) await writeFileAtomically(at(name), (file) => file.writeFile(bytes));
  await writeFileAtomically(at(stateFile), (file) => file.writeFile(text));
}
