import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { withPath } from '../../errors';
import { isOfAccelerate } from '../../formats/dcp/place';
import { writeFileAtomically } from '../../formats/files/atomic-file';
import { readSmallFile } from '../../formats/files/small-file';
import { save } from '../../formats/pt';
import { Float } from '../../pickle/types';
import type { ParameterState } from '../../optim';
import { noGrad } from '../../tensor/autograd';
import type { DType } from '../../tensor/dtype';
import { dispose } from '../../tensor/scope';
import { Tensor } from '../../tensor/tensor';
import { exists, parseJson, readText } from '../files';
import { replaceDirectory } from '../replace-directory';
import { commonDType, formatError, loadDict, numberIn, type ReadOptions, type SavedModel, wrong } from '../saved-model';
import { hfCompanions, hfFiles, hfGpt2, isHfWeightsName, trainingFiles } from './hf-gpt2';
import { isAdapterName, peft } from './peft';
import { type DirectoryProgram, Listing, type ModelFiles, type OpenModel, type WriteRequest } from './program';
import { argumentsFile, checkTrainerOptimizer } from './trainer-arguments';

/**
 * `checkpoint-N` of Hugging Face's Trainer: a directory of the model, or of its PEFT adapter, and next to it what resuming
 * needs. Trainer writes trainer_state.json last, so that a directory without it is incomplete.
 */

const stateFile = 'trainer_state.json';
const optimizerFile = 'optimizer.pt';
const schedulerFile = 'scheduler.pt';
const checkpointName = /^checkpoint-(\d+)$/;

/** Files that are kept byte for byte, never read: arguments as an object of Trainer's, the gradient scaler, random numbers. */
const isKept = (name: string): boolean =>
  name === argumentsFile || name === 'scaler.pt' || /^rng_state(_\d+)?\.pth$/.test(name);

/** Whether Trainer writes this file into a checkpoint, so that a new checkpoint replaces it. */
const isTrainers = (name: string): boolean =>
  [stateFile, optimizerFile, schedulerFile, ...hfCompanions].includes(name) ||
  isKept(name) ||
  isHfWeightsName(name) ||
  isAdapterName(name);

/** What writing back needs besides the model. */
interface Kept {
  state: TrainerState;
  scheduler: ReadonlyMap<string, unknown> | undefined;
  files: ReadonlyMap<string, Buffer>;
  /** The dtype that all moments have in optimizer.pt: that of the weights which were trained. Null for float32. */
  momentDType: DType | null;
}

export const hfTrainer: DirectoryProgram = {
  name: 'hf-trainer',
  place: 'directory',
  container: 'huggingface',
  holdsOptimizer: true,
  locate: async (listing) => {
    if (!listing.has(stateFile)) return [];
    const files = await modelIn(listing);
    return files === undefined ? [] : [files];
  },
  locateRun,
  read,
  write,
};

/** The checkpoints in Trainer's output directory, that of the most updates first. */
async function locateRun(output: Listing): Promise<ModelFiles[]> {
  // Those of FSDP are distributed checkpoints.
  const found = checkpointsIn(output).filter(({ directory }) => !isOfAccelerate(directory));
  const saw = `the last complete one of ${found.length} checkpoint(s)`;
  return Promise.all(
    found.map(async ({ directory }) => {
      const listing = new Listing(directory, await readdir(directory).catch(() => []));
      const model = await modelIn(listing);
      const files = model ?? hfFiles(listing, 'model.safetensors');
      const missing =
        model === undefined
          ? 'model.safetensors, pytorch_model.bin or adapter_model.safetensors'
          : listing.has(stateFile)
            ? undefined
            : `${stateFile}, which is written last`;
      return { ...files, saw: `${path.basename(directory)}, ${saw}`, missing };
    }),
  );
}

/** The files of the model in a checkpoint, or of its adapter; undefined where neither is there. */
async function modelIn(listing: Listing): Promise<ModelFiles | undefined> {
  for (const program of [hfGpt2, peft]) {
    const [files] = await program.locate(listing);
    if (files !== undefined && files.missing === undefined) return { ...files, ...trainingFiles(listing) };
  }
  return undefined;
}

function checkpointsIn(output: Listing): { step: number; directory: string }[] {
  const found = new Map<string, string>();
  for (const name of output.names) if (checkpointName.test(name)) found.set(name, name);
  // A crash during a replacement may have left a directory under its temporary name.
  for (const name of output.names) {
    const [, own] = /^\.(.*)\.replaced$/.exec(name) ?? [];
    if (own !== undefined && checkpointName.test(own) && !found.has(own)) found.set(own, name);
  }
  return Array.from(found, ([own, name]) => ({
    step: Number(checkpointName.exec(own)![1]),
    directory: output.at(name),
  })).sort((a, b) => b.step - a.step);
}

async function read(files: ModelFiles, options: ReadOptions, open: OpenModel): Promise<SavedModel> {
  const { directory, saw } = files;
  const at = (name: string): string => path.join(directory, name);
  const state = await withPath(at(stateFile), async () => parseTrainerState(await readText(at(stateFile))));
  const hasOptimizer = await exists(at(optimizerFile));
  if (options.optimizer && hasOptimizer) await checkTrainerOptimizer(directory);
  const program = isAdapterName(path.basename(files.weights)) ? peft : hfGpt2;
  const model = await program.read(files, options, open);
  try {
    const readDict = async (name: string): Promise<Map<string, unknown> | undefined> => {
      if (!options.optimizer || !(await exists(at(name)))) return undefined;
      return loadDict(at(name), { device: options.device, exact: true });
    };
    const scheduler = await readDict(schedulerFile);
    const bytes = await readKept(directory);
    const optimizerState = (await readDict(optimizerFile)) ?? null;
    dispose(model.optimizerState); // of an adapter's base model
    const kept: Kept = { state, scheduler, files: bytes, momentDType: momentDType(optimizerState) };
    return {
      ...model,
      training: { ...model.training, step: state.step },
      optimizerState,
      origin: {
        ...model.origin,
        program: 'hf-trainer',
        saw: [...(saw === undefined ? [] : [saw]), `a ${stateFile} of global_step ${state.step}`, ...model.origin.saw],
        kept: new Map([...model.origin.kept, ['trainer', kept]]),
        hasOptimizer,
      },
    };
  } catch (error) {
    dispose([model.weights, model.adapter?.weights]);
    throw error;
  }
}

function momentDType(state: ReadonlyMap<string, unknown> | null): DType | null {
  const values = state?.get('state');
  const moments = [...(values instanceof Map ? values.values() : [])].flatMap((of: unknown) =>
    of instanceof Map ? [...(of as Map<string, unknown>)].filter(([name]) => name !== 'step') : [],
  );
  return commonDType(new Map(moments.map(([, value], i) => [String(i), value])));
}

async function readKept(directory: string): Promise<Map<string, Buffer>> {
  const names = (await readdir(directory)).filter(isKept);
  const files = names.map(async (name) => [name, await readSmallFile(path.join(directory, name))] as const);
  return new Map(await Promise.all(files));
}

/**
 * Writes a checkpoint for Trainer to resume from. Without an optimizer, with which Trainer would begin anew unasked, a
 * directory of the model alone.
 */
async function write(target: string, request: WriteRequest): Promise<void> {
  const { optimizerState, kept } = request;
  if (optimizerState === null) {
    const writeAlone = (directory: string): Promise<void> => programOf(request).write(directory, request);
    const isTrainer = await exists(path.join(target, stateFile));
    return isTrainer ? replaceDirectory(target, writeAlone, isTrainers) : writeAlone(target);
  }
  const trainer = kept.get('trainer') as Kept;
  const step = request.step ?? trainer.state.step;
  const place = await checkpointIn(target, step);
  await replaceDirectory(
    place,
    async (directory) => {
      await programOf(request).write(directory, request);
      const moments = request.dtype === trainer.momentDType ? trainer.momentDType : null;
      await withMoments(optimizerState, moments, (state) => writeTraining(directory, trainer, state, step));
    },
    isTrainers,
  );
}

/** The program that writes the model: an adapter has the keys of PEFT. */
function programOf({ model }: WriteRequest): DirectoryProgram {
  return model.lora?.keys === 'peft' ? peft : hfGpt2;
}

/** Runs `write` with moments in the dtype that Trainer had them in, and frees the copies. */
async function withMoments(
  state: ReadonlyMap<string, unknown>,
  dtype: DType | null,
  write: (state: ReadonlyMap<string, unknown>) => Promise<void>,
): Promise<void> {
  if (dtype === null) return write(state);
  const casts: Tensor[] = [];
  const cast = (name: string, value: unknown): unknown => {
    if (name === 'step' || !(value instanceof Tensor)) return value;
    casts.push(noGrad(() => value.to(dtype)));
    return casts.at(-1);
  };
  try {
    const parameters = Array.from(state.get('state') as Map<unknown, ParameterState>, ([index, values]) => {
      return [index, new Map(Array.from(values, ([name, value]) => [name, cast(name, value)]))] as const;
    });
    await write(new Map(state).set('state', new Map(parameters)));
  } finally {
    dispose(casts);
  }
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
  const text = withPath(stateFile, () => trainerStateAt(state, step));
  await save(optimizerState, at(optimizerFile));
  await save(schedulerAt(scheduler, optimizerState, { before: state.step, step }), at(schedulerFile));
  for (const [name, bytes] of files) await writeFileAtomically(at(name), (file) => file.writeFile(bytes));
  await writeFileAtomically(at(stateFile), (file) => file.writeFile(text));
}

interface TrainerState {
  /** trainer_state.json as it came. */
  text: string;
  /** Optimizer updates made. */
  step: number;
  /** Passes over the data, with the part of the present one; null where the file does not say. */
  epoch: number | null;
}

/** @throws CheckpointError for what is not a state of Trainer */
function parseTrainerState(text: string): TrainerState {
  const json = parseJson(text);
  const { global_step: step, epoch } = json;
  if (!Number.isSafeInteger(step) || (step as number) < 0)
    throw wrong('global_step to be an integer of at least 0', step);
  return { text, step: step as number, epoch: typeof epoch === 'number' ? epoch : null };
}

/**
 * The text of trainer_state.json at a step. The epoch moves in proportion; all else, the log and the best metric among it,
 * stays as Trainer wrote it.
 *
 * @throws CheckpointError for a text that is not laid out as Trainer does
 */
function trainerStateAt({ text, step: before, epoch }: TrainerState, step: number): string {
  if (step === before) return text;
  const moved = epoch === null || before === 0 ? null : (epoch * step) / before;
  let changed = replaceField(text, 'global_step', String(step));
  if (moved !== null) changed = replaceField(changed, 'epoch', Number.isInteger(moved) ? `${moved}.0` : `${moved}`);
  if (parseTrainerState(changed).step === step) return changed;
  throw formatError(
    'it is not laid out as Trainer does, with each field on a line of its own: its step cannot be changed',
  );
}

/** Fields of the object itself are indented by two; those within it by more, and strings have no line breaks. */
function replaceField(text: string, name: string, value: string): string {
  return text.replace(new RegExp(`^( {2}"${name}": )[^,\r\n]+`, 'm'), (_, start: string) => start + value);
}

/**
 * scheduler.pt at a step: the counters of PyTorch's LambdaLR, which Trainer uses, go on by the updates made, and the last rates
 * are those of the optimizer's groups. A scheduler that counts otherwise stays as it was. Without one that came, a LambdaLR
 * whose base rates are the groups' own.
 */
function schedulerAt(
  came: ReadonlyMap<string, unknown> | undefined,
  optimizerState: ReadonlyMap<string, unknown>,
  updates: { before: number; step: number },
): Map<string, unknown> {
  const groups = optimizerState.get('param_groups') as ReadonlyMap<string, unknown>[];
  const rates = groups.map((group) => new Float(numberIn(group.get('lr'))!));
  if (came === undefined) return freshScheduler(groups, rates, updates.step);
  const scheduler = new Map(came);
  const [last, count] = [came.get('last_epoch'), came.get('_step_count')];
  if (typeof last === 'number' && typeof count === 'number') {
    scheduler.set('last_epoch', last + updates.step - updates.before);
    scheduler.set('_step_count', count + updates.step - updates.before);
  }
  if (Array.isArray(came.get('_last_lr'))) scheduler.set('_last_lr', rates);
  return scheduler;
}

function freshScheduler(
  groups: readonly ReadonlyMap<string, unknown>[],
  rates: readonly Float[],
  step: number,
): Map<string, unknown> {
  const base = groups.map((group) => new Float(numberIn(group.get('initial_lr') ?? group.get('lr'))!));
  return new Map<string, unknown>([
    ['base_lrs', base],
    ['last_epoch', step],
    ['_step_count', step + 1],
    ['_is_initial', false],
    ['_get_lr_called_within_step', false],
    ['_last_lr', rates],
    ['lr_lambdas', groups.map(() => new Map())],
  ]);
}
