import { compare, formatComparison } from '../checkpoint';
import { GPT } from '../gpt';
import { deviceOption } from './device';
import { findModel, type ModelFlags } from './models';
import { print } from './output';
import type { DeviceName } from '../tensor/schema-types';

export interface CompareFlags extends ModelFlags {
  tensors?: number;
  prompt?: string;
  maxNewTokens: number;
  seed: number;
  device?: DeviceName;
  json?: boolean;
}

/** Distances of the weights of two models, or a text that each of them writes. */
export async function runCompare(a: string, b: string, flags: CompareFlags): Promise<void> {
  const { checkpointDir, json, prompt, tensors } = flags;
  const files = [await findModel(a, { checkpointDir }), await findModel(b, { checkpointDir })] as const;
  if (prompt === undefined) {
    const comparison = await compare(...files);
    print(json, comparison, () => formatComparison(comparison, tensors === undefined ? {} : { tensors }));
    return;
  }
  const written: { model: string; text: string }[] = [];
  for (const file of files) written.push({ model: file, text: await write(file, prompt, flags) });
  print(json, { prompt, written }, () => written.map(({ model, text }) => `== ${model}\n${text}`).join('\n\n'));
}

async function write(file: string, prompt: string, { device, maxNewTokens, seed }: CompareFlags): Promise<string> {
  const model = await GPT.load(file, deviceOption(device));
  try {
    return await model.generate(prompt, { maxNewTokens, seed });
  } finally {
    model.dispose();
  }
}
