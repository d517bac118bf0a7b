import { isLaunched } from '../distributed/environment';
import { initProcessGroup } from '../distributed/group';
import { CheckpointManager, type TrainingStart } from '../gpt';
import { manualSeed } from '../tensor/random';
import { deviceOption } from './device';
import { asWrongUse, usageError } from './errors';
import { note, silence } from './output';
import { readData, type TrainingData } from './text';
import { givenTokenizer } from './tokenizer';
import { trainSingleFiles } from './train-files';
import type { TrainFlags } from './train-flags';
import { fitOptions, follow, reportEnd, updatesToMake, wantsOwnOptimizer } from './train-loop';
import { addLora, configOf, describeModel, noteUnused } from './train-model';

/** Whether a flag was given on the command line, and not by a variable. */
type IsGiven = (name: keyof TrainFlags) => boolean;

/** Trains as the flags say, and sets the exit status. */
export async function runTrain(given: TrainFlags, isGiven: IsGiven): Promise<void> {
  const flags = given.testMode === true ? asTrial(given) : given;
  checkFlags(flags, isGiven);
  await joinRanks(flags, isGiven);
  if (flags.seed !== undefined) manualSeed(flags.seed);
  await (keepsSingleFiles(flags, isGiven) ? trainSingleFiles(flags) : trainNamed(flags));
}

/** Under torchrun, or another launcher of several processes, all ranks train one model; the first prints and saves. */
async function joinRanks(flags: TrainFlags, isGiven: IsGiven): Promise<void> {
  if (!isLaunched() || Number(process.env.WORLD_SIZE) < 2) return;
  if (keepsSingleFiles(flags, isGiven)) {
    throw usageError(
      'Several ranks train a model with a name: give --model-name, and no flags of single-file checkpoints.',
    );
  }
  const { rank, size } = await initProcessGroup();
  if (rank > 0) silence();
  const { batchSize = 32, gradientAccumulationSteps = 1 } = flags;
  const windows = batchSize * size * gradientAccumulationSteps;
  note(`${size} ranks: ${batchSize} windows a batch on each, ${windows} windows an update on all`);
}

function asTrial(flags: TrainFlags): TrainFlags {
  const small = { maxIters: 20, batchSize: 4, blockSize: 32, nEmbd: 32, nHead: 2, nLayer: 2 };
  return { ...small, ...flags, evalInterval: 10, evalIters: 2 };
}

function checkFlags(flags: TrainFlags, isGiven: IsGiven): void {
  if (flags.tokenization === 'custom_bpe' && flags.tokenizer === undefined) {
    throw usageError(
      "Tokenizers are not trained here. Train one with Python's tokenizers, and give its file: --tokenizer tokenizer.json.",
    );
  }
  const singles = (['checkpointPath', 'modelType', 'enableCheckpoints'] as const).filter(isGiven);
  if (isGiven('modelName') && singles.length > 0) {
    throw usageError(
      '--model-name keeps a bundle in a directory; --checkpoint-path, --model-type and --enable-checkpoints keep single ' +
        'files. Give one or the other.',
    );
  }
  if (isGiven('maxIters') && isGiven('resumeTrainingSteps')) {
    throw usageError(
      '--max-iters counts the updates made before, --resume-training-steps those beyond them. Give one of them.',
    );
  }
}

/** Flags go before variables: a name that is given as a flag makes a bundle, whatever variables say. */
function keepsSingleFiles(flags: TrainFlags, isGiven: IsGiven): boolean {
  if (isGiven('modelName')) return false;
  return flags.checkpointPath !== undefined || flags.modelType !== undefined || flags.enableCheckpoints === true;
}

/** A model with a directory of its name; an existing one resumes. */
async function trainNamed(flags: TrainFlags): Promise<void> {
  const { modelName = 'default', checkpointDir: root, keep, evalInterval, json } = flags;
  const data = await readData(flags.inputFile);
  const manager = new CheckpointManager(modelName, { root });
  const start = await startNamed(manager, flags, data);
  const { model, startStep } = start;
  const updates = updatesToMake(flags, startStep);
  note(`${introduction(start, modelName)}: ${describeModel(model)}`);
  if (updates === 0) {
    note(`Step ${startStep} is reached already; a higher --max-iters continues.`);
    return;
  }
  const result = await follow(
    model,
    {
      ...fitOptions(flags, updates),
      ...data.fit,
      checkpointDir: manager.checkpointDir,
      saveEvery: flags.checkpointInterval ?? (evalInterval || updates),
      metrics: flags.metrics ?? true,
      ...(keep === undefined ? {} : { keep: { last: keep } }),
    },
    json,
  );
  reportEnd(result, manager.checkpointDir, json);
}

async function startNamed(manager: CheckpointManager, flags: TrainFlags, data: TrainingData): Promise<TrainingStart> {
  const { tokenization, initFromModel, allowMixed = false } = flags;
  const tokenizer = (await givenTokenizer(flags)) ?? data.tokenizer;
  const start = await manager
    .initializeForTraining({
      config: configOf(flags),
      text: data.text,
      allowMixed,
      ...(tokenization === undefined ? {} : { tokenization: tokenization === 'character' ? 'char' : tokenization }),
      ...(tokenizer === undefined ? {} : { tokenizer }),
      ...(initFromModel === undefined ? {} : { initFromModel }),
      ...deviceOption(flags.device),
    })
    .catch(async (error: unknown) => {
      const isNew = (await manager.list()).length === 0;
      throw isNew ? asWrongUse(error) : error;
    });
  const { model, mode } = start;
  if (mode === 'resume') noteUnused(flags, model);
  else if (wantsOwnOptimizer(flags)) model.setTraining(undefined, 0);
  addLora(model, flags);
  return start;
}

function introduction({ mode, source, startStep }: TrainingStart, name: string): string {
  if (mode === 'resume') return `${name} continues from step ${startStep} of ${source}`;
  return mode === 'init' ? `${name}, from the weights of ${source}` : `${name}, a new model`;
}
