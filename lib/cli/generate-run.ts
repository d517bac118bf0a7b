import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { TorchBindError } from '../errors';
import { GPT } from '../gpt';
import type { GenerateOptions } from '../generation/generate';
import { deviceOption } from './device';
import { usageError } from './errors';
import { findModel, type ModelFlags } from './models';
import { withoutUndefined } from '../objects';
import { note } from './output';
import { readText } from './text';
import { charactersOf, givenTokenizer } from './tokenizer';
import type { DeviceName } from '../tensor/schema-types';

export interface GenerateFlags extends ModelFlags {
  prompt: string;
  maxNewTokens: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  greedy?: boolean;
  repetitionPenalty?: number;
  endOfText?: boolean;
  seed?: number;
  stop?: string[];
  tokenizer?: string;
  inputFile?: string;
  device?: DeviceName;
  saveOutput?: boolean;
  outputDir: string;
  json?: boolean;
}

/** Writes text with a model to stdout, as it comes. */
export async function runGenerate(reference: string | undefined, flags: GenerateFlags): Promise<void> {
  const file = await findModel(reference, flags);
  const tokenizer = await givenTokenizer(flags);
  const model = await GPT.load(file, {
    ...(tokenizer === undefined ? {} : { tokenizer }),
    ...deviceOption(flags.device),
  });
  if (model.tokenizer === null && flags.inputFile !== undefined) {
    model.tokenizer = charactersOf(file, await readText(flags.inputFile), model.config.vocabSize);
  }
  const interrupted = new AbortController();
  const onInterrupt = (): void => interrupted.abort();
  process.once('SIGINT', onInterrupt);
  try {
    const text = await write(model, flags, interrupted.signal);
    if (flags.json === true) {
      const { prompt } = flags;
      process.stdout.write(`${JSON.stringify({ model: file, step: model.step, prompt, text }, null, 2)}\n`);
    }
    if (flags.saveOutput === true) note(`saved ${await saveText(flags, text)}`);
  } finally {
    process.off('SIGINT', onInterrupt);
    model.dispose();
  }
}

/** The text, prompt included; shown while it is written where JSON is not asked for. */
async function write(model: GPT, flags: GenerateFlags, signal: AbortSignal): Promise<string> {
  const show = (text: string): void => void (flags.json !== true && process.stdout.write(text));
  let text = '';
  const add = (piece: string): void => {
    text += piece;
    show(piece);
  };
  try {
    for await (const piece of model.stream(flags.prompt, { ...samplingOf(flags), signal })) {
      // Not before: the model may refuse the prompt.
      if (text === '') add(flags.prompt);
      add(piece);
    }
  } catch (error) {
    if (!signal.aborted) throw promptError(error);
    process.exitCode = 130;
  }
  if (text === '') add(flags.prompt);
  show('\n');
  return text;
}

/** An error that names the flag where the prompt is at fault. */
function promptError(error: unknown): unknown {
  const isOfPrompt = error instanceof TorchBindError && error.code === 'ERR_TORCHBIND_UNKNOWN_CHARACTER';
  if (!isOfPrompt) return error;
  // What to do in a program does not help here.
  return usageError(`--prompt: ${error.message.replace(/, or make the tokenizer [^]*$/, '.')}`);
}

export function samplingOf(flags: Partial<GenerateFlags>): GenerateOptions {
  const { maxNewTokens, temperature, topK, topP, minP, greedy, repetitionPenalty, endOfText, seed, stop } = flags;
  return withoutUndefined({
    maxNewTokens,
    temperature,
    topK,
    topP,
    minP,
    greedy,
    repetitionPenalty,
    endOfText,
    seed,
    stop,
  });
}

async function saveText({ outputDir }: GenerateFlags, text: string): Promise<string> {
  await mkdir(outputDir, { recursive: true });
  const time = new Date().toISOString().replaceAll(':', '').slice(0, 17);
  const file = path.join(outputDir, `generated_${time}.txt`);
  await writeFile(file, `${text}\n`);
  return file;
}
