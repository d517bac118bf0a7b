import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { inspect, resolveCheckpoint } from '../checkpoint';
import { exists } from '../checkpoint/files';
import { buildLlmName, gpt2Layout } from '../checkpoint/programs/build-llm';
import { GPT } from '../gpt';
import { homeDirectory } from '../home';
import { tokenizerForText, type Tokenizer } from '../tokenizers';
import { MetricsLog } from '../train/metrics/log';
import { deviceOption, deviceForNew } from './device';
import { asWrongUse, usageError } from './errors';
import { note } from './output';
import { readData, type TrainingData } from './text';
import type { TrainFlags } from './train-flags';
import { fitOptions, follow, report, reportEnd, updatesToMake } from './train-loop';
import { charactersOf, givenTokenizer } from './tokenizer';
import { addBuildLlmLora, configOf, describeModel, noteUnused } from './train-model';

/** Default number of updates between checkpoints, as in the Python program. */
const defaultInterval = 500;

/**
 * Trains a model whose checkpoints are single files, checkpoint_{model}_{source}_step{N}_{time}.pt: a new one, GPT-2, or
 * one that continues from such a file.
 */
export async function trainSingleFiles(flags: TrainFlags): Promise<void> {
  const { checkpointDir, enableCheckpoints, json } = flags;
  const file = flags.checkpointPath === undefined ? undefined : await resolveCheckpoint(flags.checkpointPath);
  const inputFile = flags.inputFile ?? (await sourceOf(file));
  const data = await readData(inputFile);
  const model = await openForTraining(flags, file, data);
  addBuildLlmLora(model, flags);
  const startStep = model.step ?? 0;
  const updates = updatesToMake(flags, startStep);
  note(`${startStep > 0 ? `from step ${startStep}` : 'from the beginning'}: ${describeModel(model)}`);
  // A run that continues from a checkpoint keeps what it makes.
  const keeps = enableCheckpoints ?? flags.checkpointPath !== undefined;
  const source = inputFile === '-' ? 'stdin' : inputFile!;
  let savedStep: number | undefined;
  let wanted = false;
  const onSignal = (): void => void (wanted = true);
  const saveFile = async (step: number): Promise<string> => {
    const hyperparameters = {
      training_steps: startStep + updates,
      ...(model.layout.name === 'hf-gpt2' ? { gpt2_model_name: flags.gpt2ModelName } : {}),
    };
    const file = await model.saveCheckpointFile(checkpointDir, { source, step, hyperparameters });
    savedStep = step;
    report({ type: 'save', step, directory: file }, json);
    return file;
  };
  const interval = flags.checkpointInterval ?? defaultInterval;
  const log =
    flags.logDir === undefined
      ? null
      : MetricsLog.open(
          flags.logDir,
          startStep,
          `${buildLlmName(model, undefined, flags.gpt2ModelName)} on ${path.basename(source)}`,
        );
  process.on('SIGUSR1', onSignal);
  try {
    const result = await follow(model, { ...fitOptions(flags, updates), ...data.fit }, json, async (event) => {
      log?.take(event);
      if (event.type !== 'step' || !(wanted || (keeps && event.step % interval === 0))) return;
      wanted = false;
      await saveFile(event.step);
    });
    const last = keeps && savedStep !== result.step ? await saveFile(result.step) : null;
    reportEnd(result, last, json);
  } finally {
    process.off('SIGUSR1', onSignal);
    log?.close();
  }
}

/** The training data that a checkpoint names, which is relative to where it was trained. */
async function sourceOf(file: string | undefined): Promise<string | undefined> {
  if (file === undefined) return undefined;
  const { config } = await inspect(file);
  const source = config?.training_data_source;
  if (typeof source !== 'string') return undefined;
  if (await exists(source)) return source;
  throw usageError(
    `${file} was trained on ${source}, which was not found. Name the text to train on: --input-file FILE.`,
  );
}

async function openForTraining(
  flags: TrainFlags,
  file: string | undefined,
  { text, tokenizer: dataTokenizer }: TrainingData,
): Promise<GPT> {
  const { modelType = 'from_scratch', gpt2ModelName, device, allowMixed = false } = flags;
  const tokenizer = (await givenTokenizer(flags)) ?? dataTokenizer;
  const given = { ...deviceOption(device), ...(tokenizer === undefined ? {} : { tokenizer }) };
  if (file !== undefined) {
    const model = await GPT.load(file, { ...given, optimizer: true, allowMixed });
    noteUnused(flags, model);
    if (model.tokenizer === null) model.tokenizer = charactersOf(file, text, model.config.vocabSize);
    return model;
  }
  if (modelType === 'gpt2') {
    const model = await GPT.load(await findGpt2(gpt2ModelName), { device: deviceForNew(device), ...given });
    model.tokenizer ??= tokenizerForText('gpt2', '');
    model.setLayout(gpt2Layout()); // key names and the single parameter group of that program, before the optimizer is made
    return model;
  }
  return newModel(flags, tokenizer ?? newTokenizer(flags, text));
}

function newModel(flags: TrainFlags, tokenizer: Tokenizer): GPT {
  const config = configOf(flags);
  const options = { tokenizer, layout: 'build-llm', device: deviceForNew(flags.device) };
  try {
    return new GPT({ ...config, vocabSize: tokenizer.vocabSize }, options);
  } catch (error) {
    throw asWrongUse(error);
  }
}

function newTokenizer({ tokenization = 'character' }: TrainFlags, text: string): Tokenizer {
  return tokenizerForText(tokenization === 'character' ? 'char' : tokenization, text);
}

/** The directory of a GPT-2: as it is named, or in the cache that Hugging Face's own programs download to. */
async function findGpt2(name: string): Promise<string> {
  if (await isDirectory(name)) return name;
  const home = process.env.HF_HOME ?? path.join(homeDirectory() ?? '~', '.cache/huggingface');
  const hub = process.env.HF_HUB_CACHE ?? path.join(home, 'hub');
  for (const id of [name, `openai-community/${name}`]) {
    const cached = path.join(hub, `models--${id.replaceAll('/', '--')}`);
    const revision = await readFile(path.join(cached, 'refs/main'), 'utf8').catch(() => undefined);
    const snapshots = await readdir(path.join(cached, 'snapshots')).catch(() => [] as string[]);
    const snapshot = snapshots.find((entry) => entry === revision?.trim()) ?? snapshots[0];
    if (snapshot !== undefined) return path.join(cached, 'snapshots', snapshot);
  }
  throw usageError(
    `Found no directory ${name}, and no model of that name in ${hub} (HF_HOME names another place). torchbind downloads no models: fetch it with ` +
      `"huggingface-cli download ${name}", or give the directory of one, as --gpt2-model-name path/to/gpt2.`,
  );
}

async function isDirectory(file: string): Promise<boolean> {
  return stat(file).then(
    (info) => info.isDirectory(),
    () => false,
  );
}
