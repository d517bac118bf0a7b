import path from 'node:path';
import { withPath } from '../../errors';
import { save } from '../../formats/pt';
import type { GPTConfig } from '../../models/config';
import { type ConfigFacts, recogniseAdapted, type Recognised } from '../../models/layouts';
import { loadTokenizer } from '../../tokenizers';
import { weightsOf, wrapWeights } from './bundle';
import { bundleFiles, readOptionalJson } from '../files';
import { generationBeside } from '../text-files';
import {
  commonDType,
  noTraining,
  type ReadOptions,
  resolveConfig,
  resolveJsonConfig,
  resolveTokenizer,
  type SavedModel,
} from '../saved-model';
import { type FileProgram, withWeights, type WriteRequest } from './program';
import { hfFacts, isHfConfig } from './hf-gpt2';

/** A state dict alone in a file, or in a dict with notes; a config.json and a tokenizer.json may be in its directory. */
export const stateDict: FileProgram = {
  name: 'state-dict',
  place: 'file',
  fileNames: [],
  holdsOptimizer: false,
  recognise: () => true,
  read,
  write,
};

async function read(file: string, value: Map<string, unknown>, options: ReadOptions): Promise<SavedModel> {
  const { weights, kept } = weightsOf(value);
  const recognised = recogniseAdapted(weights);
  const { config, hasConfig } = await configBeside(file, recognised, {}, options);
  return {
    config,
    // Without a config nothing says that the files of the directory belong together.
    tokenizer: await resolveTokenizer(options, async () => (hasConfig ? loadTokenizer(file) : null)),
    weights,
    recognised,
    training: noTraining,
    optimizerState: null,
    generationConfig: hasConfig ? await generationBeside(file) : undefined,
    origin: {
      program: 'state-dict',
      path: file,
      saw: [kept.size > 0 ? 'a dict with a state_dict' : 'a state dict alone', ...recognised.saw],
      dtype: commonDType(weights),
      kept,
      hasOptimizer: false,
    },
  };
}

/** The config of weights in a file: what a config.json in its directory says, else what the file says in `said`. */
export async function configBeside(
  file: string,
  recognised: Recognised,
  said: ConfigFacts,
  options: ReadOptions,
): Promise<{ config: GPTConfig; hasConfig: boolean }> {
  const configFile = path.join(path.dirname(file), bundleFiles.config);
  const json = await readOptionalJson(configFile);
  if (json === undefined) return { config: resolveConfig(recognised, said, options), hasConfig: false };
  const config = isHfConfig(json)
    ? resolveConfig(recognised, { ...withPath(configFile, () => hfFacts(json, recognised)), ...said }, options)
    : withPath(configFile, () => resolveJsonConfig(json, recognised, options));
  return { config, hasConfig: true };
}

async function write(file: string, request: WriteRequest): Promise<void> {
  const { dtype, kept } = request;
  const notes: Record<string, string> = { bfloat16: 'bf16', float16: 'fp16' };
  await withWeights(request, (weights) => save(wrapWeights(weights, kept, notes[dtype ?? ''] ?? 'fp32'), file));
}
