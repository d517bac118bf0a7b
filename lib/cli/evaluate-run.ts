import { TokenFile } from '../data';
import { GPT } from '../gpt';
import { statusLine } from '../status-line';
import type { DeviceName } from '../tensor/schema-types';
import type { EvaluateOptions, EvaluateResult } from '../train';
import { withoutUndefined } from '../objects';
import { deviceOption } from './device';
import { usageError } from './errors';
import { findModel, type ModelFlags } from './models';
import { print } from './output';
import { readText } from './text';

export interface EvaluateFlags extends ModelFlags {
  inputFile?: string;
  device?: DeviceName;
  windowSize?: number;
  stride?: number;
  batchSize?: number;
  json?: boolean;
}

/** Measures a model on a text, with a line on stderr that shows how far it is. */
export async function runEvaluate(reference: string | undefined, flags: EvaluateFlags): Promise<void> {
  const { inputFile, windowSize, stride, batchSize, json } = flags;
  if (inputFile === undefined) throw usageError('Say on which text: --input-file FILE; - is stdin.');
  const file = await findModel(reference, flags);
  const data = inputFile.endsWith('.bin') ? TokenFile.open(inputFile) : await readText(inputFile);
  const model = await GPT.load(file, deviceOption(flags.device));
  let progress = { done: 0, total: 0 };
  const line = statusLine(() => `${progress.done} of ${progress.total} tokens`);
  const onProgress: EvaluateOptions['onProgress'] = (now) => {
    progress = now;
    line.draw();
  };
  try {
    const options = withoutUndefined({ windowSize, stride, batchSize });
    const result = await model.evaluate(data, { ...options, onProgress });
    line.end();
    print(json, { model: file, step: model.step, data: inputFile, ...result }, () => describe(result));
  } finally {
    line.end();
    model.dispose();
  }
}

function describe({ loss, perplexity, tokens, bitsPerByte }: EvaluateResult): string {
  const bits = bitsPerByte === null ? '' : `, ${bitsPerByte.toFixed(4)} bits for each byte`;
  return `loss ${loss.toFixed(4)}, perplexity ${perplexity.toFixed(3)}${bits} (${tokens} tokens)`;
}
