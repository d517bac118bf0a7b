import { checkPath, CheckpointCode, CheckpointError } from '../errors';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { load } from '../formats/pt';
import { isBundle, readBundle } from './programs/bundle';
import { bundleFiles, exists } from './files';
import { isBuildLlm, readBuildLlm } from './programs/build-llm';
import { findHfWeights, isHfIndex } from './programs/hf-weights';
import { readHfGpt2 } from './programs/hf-gpt2';
import { isHfTrainer, listTrainerCheckpoints, readHfTrainer, readLastCheckpoint } from './programs/hf-trainer';
import { isPeft, readPeft } from './programs/peft';
import { isNanoGpt, readNanoGpt } from './programs/nanogpt';
import { readStateDictFile } from './programs/state-dict';
import { legacyFiles, legacyFrom } from './programs/legacy';
import { mapIn, type ReadOptions, type SavedModel } from './saved-model';

/** What nanoGPT calls its checkpoint in a directory. */
export const nanogptFile = 'ckpt.pt';

/**
 * Reads the model that is at a path, in whatever form a program left it there.
 *
 * @throws CheckpointError saying what was looked for; ERR_TORCHBIND_LAYOUT for weights of no known family
 */
export async function openModel(target: string, options: ReadOptions): Promise<SavedModel> {
  checkPath(target, 'GPT.load');
  const info = await stat(target).catch((error: Error) => {
    throw new CheckpointError(`cannot open ${target}: ${error.message}`, CheckpointCode.open, { cause: error });
  });
  return info.isDirectory() ? openDirectory(target, options) : openFile(target, options);
}

async function openDirectory(directory: string, options: ReadOptions): Promise<SavedModel> {
  const weights = await findHfWeights(directory);
  if (weights !== undefined) {
    return (await isHfTrainer(directory)) ? readHfTrainer(weights, options) : readHfGpt2(weights, options);
  }
  if (await isPeft(directory)) return readPeft(directory, options, openModel);
  if (await isBundle(directory)) return readBundle(directory, options);
  for (const name of [nanogptFile, ...legacyFiles.inference]) {
    const file = path.join(directory, name);
    if (await exists(file)) return openFile(file, options);
  }
  const checkpoints = await listTrainerCheckpoints(directory);
  if (checkpoints.length > 0) return readLastCheckpoint(checkpoints, options);
  const found = (await readdir(directory)).slice(0, 8).join(', ');
  throw new CheckpointError(
    `${directory} holds no model: neither ${bundleFiles.model} with ${bundleFiles.config}, nor model.safetensors or ` +
      `pytorch_model.bin, nor ${nanogptFile}, ${legacyFiles.inference.join(' or ')}, nor a checkpoint-N. ` +
      `It holds ${found || 'nothing'}.`,
    CheckpointCode.open,
  );
}

async function openFile(file: string, options: ReadOptions): Promise<SavedModel> {
  if (isHfIndex(file) || file.endsWith('.safetensors')) return readHfGpt2(file, options);
  const value = await load(file, { device: options.device, exact: true });
  const dict = mapIn(file, value);
  if (isNanoGpt(dict)) return readNanoGpt(file, dict, options);
  if (isBuildLlm(dict)) return readBuildLlm(file, dict, options);
  if (dict.has('model_state_dict')) return legacyFrom(file, dict, options);
  return readStateDictFile(file, dict, options);
}
