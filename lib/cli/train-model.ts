import type { GPT } from '../gpt';
import { loraTargets } from '../checkpoint/programs/build-llm';
import { applyLora } from '../models';
import { attachLora } from '../models/lora';
import type { GPTOptions } from '../models/config';
import { deviceForNew } from './device';
import { note } from './output';
import type { TrainFlags } from './train-flags';

/** In a line: what is trained, and where. */
export function describeModel(model: GPT): string {
  const parameters = model.parameters().reduce((sum, parameter) => sum + parameter.numel(), 0);
  const { nLayer, nHead, nEmbd, blockSize } = model.config;
  const tokenizer = model.tokenizer === null ? 'no tokenizer' : `tokenizer ${model.tokenizer.kind}`;
  return (
    `${parameters.toLocaleString('en-US')} parameters (${nLayer} blocks, ${nHead} heads, ${nEmbd} channels, context ` +
    `${blockSize}), ${tokenizer}, on ${model.device}`
  );
}

const configFlags = ['batchSize', 'blockSize', 'nEmbd', 'nHead', 'nLayer', 'dropout', 'bias'] as const;

/** What flags say of a new model. */
export function configOf(flags: TrainFlags): Partial<GPTOptions> {
  const given = configFlags.map((name) => [name, flags[name]] as const).filter(([, value]) => value !== undefined);
  return { ...(Object.fromEntries(given) as Partial<GPTOptions>), device: deviceForNew(flags.device) };
}

/** A model that continues has the size that it has; the batch may change. */
export function noteUnused(flags: TrainFlags, { config }: GPT): void {
  const ignored = configFlags.filter(
    (name) => name !== 'batchSize' && flags[name] !== undefined && flags[name] !== config[name],
  );
  for (const name of ignored) {
    const spelt = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    note(`--${spelt} ${String(flags[name])} is not used: the model was made with ${String(config[name])}`);
  }
}

/** Gives a model adapters where flags say so and it has none. */
export function addLora(
  model: GPT,
  { useLora, loraRank: rank, loraAlpha: alpha, loraDropout: dropout }: TrainFlags,
): void {
  if (useLora !== true || model.lora !== null) return;
  applyLora(model, { rank, alpha, dropout });
  model.setTraining(undefined, model.step);
}

/** The same as build_llm_karpathy does it, whose program makes the same adapters before it loads a file: one for every layer. */
export function addBuildLlmLora(
  model: GPT,
  { useLora, loraRank: rank, loraAlpha: alpha, loraDropout: dropout }: TrainFlags,
): void {
  if (useLora !== true || model.lora !== null) return;
  const isGpt2 = model.layout.name === 'hf-gpt2';
  const common = { rsLora: false, keys: 'plain', detachBase: true } as const;
  attachLora(model, { ...common, rank, alpha, dropout, targets: loraTargets, trainOthers: !isGpt2 });
  model.setTraining(undefined, model.step);
}
