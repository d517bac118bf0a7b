import { stat } from 'node:fs/promises';
import path from 'node:path';
import { CheckpointCode, CheckpointError } from '../errors';
import { load } from '../formats/pt';
import { dispose } from '../tensor/scope';
import { Tensor } from '../tensor/tensor';
import { isBundle } from './programs/bundle';
import { readBundleFiles } from './commit';
import { bundleFiles, exists } from './files';
import { findHfWeights } from './programs/hf-weights';
import { legacyFiles } from './programs/legacy';
import { nanogptFile } from './open';
import { mapIn, wrong } from './saved-model';

/** Entries under which programs keep a state dict among other things. */
const weightKeys = ['model_state_dict', 'state_dict', 'model'];

/**
 * The state dict at a path, memory-mapped: its bytes are read when they are used. No model is made of it, so that any
 * state dict will do. A bundle's files are compared with its manifest first.
 *
 * @param target a file of `load` or `loadSafetensors`, or a directory of what `GPT.load` opens
 * @throws CheckpointError naming what is missing or not right
 */
export async function weightsAt(target: string): Promise<Map<string, Tensor>> {
  const info = await stat(target).catch((error: Error) => {
    throw new CheckpointError(`cannot open ${target}: ${error.message}`, CheckpointCode.open, { cause: error });
  });
  return info.isDirectory() ? inDirectory(target) : inFile(target);
}

async function inDirectory(directory: string): Promise<Map<string, Tensor>> {
  const hf = await findHfWeights(directory);
  if (hf !== undefined) return inFile(hf);
  if (await isBundle(directory))
    return readBundleFiles(directory, (current) => inFile(path.join(current, bundleFiles.model)));
  const names = ['adapter_model.safetensors', nanogptFile, ...legacyFiles.inference];
  for (const name of names) if (await exists(path.join(directory, name))) return inFile(path.join(directory, name));
  throw new CheckpointError(
    `${directory} holds no weights: neither a bundle, nor model.safetensors or pytorch_model.bin, nor ${names.join(', ')}.`,
    CheckpointCode.open,
  );
}

async function inFile(file: string): Promise<Map<string, Tensor>> {
  const all = mapIn(file, await load(file, { mmap: true, unknown: 'inert' }));
  const inner = weightKeys.map((key) => all.get(key)).find((value) => value instanceof Map);
  const weights = tensorsOf((inner ?? all) as ReadonlyMap<unknown, unknown>);
  for (const [key, value] of all) if (value !== inner && !weights.has(key)) dispose(value);
  if (weights.size > 0) return weights;
  throw wrong(file, `it holds no state dict. Its keys are ${[...all.keys()].slice(0, 8).join(', ') || 'none'}.`);
}

/** The tensors of a dict by name; whatever else lies among them is left out. */
export function tensorsOf(dict: ReadonlyMap<unknown, unknown>): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  for (const [key, value] of dict) if (typeof key === 'string' && value instanceof Tensor) tensors.set(key, value);
  return tensors;
}
