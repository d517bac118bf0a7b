import path from 'node:path';
import { save } from '../../formats/pt';
import { loadTokenizer } from '../../tokenizers';
import { weightsOf, wrapWeights } from './bundle';
import { bundleFiles, readOptionalJson } from '../files';
import {
  commonDType,
  noTraining,
  type ReadOptions,
  recogniseIn,
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
  const { weights, kept } = weightsOf(file, value);
  const recognised = recogniseIn(file, weights);
  const beside = (name: string): string => path.join(path.dirname(file), name);
  const json = await readOptionalJson(beside(bundleFiles.config));
  const hf = json !== undefined && isHfConfig(json);
  return {
    config:
      json === undefined || hf
        ? resolveConfig(file, recognised, json === undefined ? {} : hfFacts(beside(bundleFiles.config), json), options)
        : resolveJsonConfig(beside(bundleFiles.config), json, recognised, options),
    // Without a config nothing says that the files of the directory belong together.
    tokenizer: await resolveTokenizer(options, async () => (json === undefined ? null : loadTokenizer(file))),
    weights,
    recognised,
    training: noTraining,
    optimizerState: null,
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

async function write(file: string, request: WriteRequest): Promise<void> {
  const { dtype, kept } = request;
  const notes: Record<string, string> = { bfloat16: 'bf16', float16: 'fp16' };
  await withWeights(request, (weights) => save(wrapWeights(weights, kept, notes[dtype ?? ''] ?? 'fp32'), file));
}
