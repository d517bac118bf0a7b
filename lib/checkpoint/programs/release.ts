import path from 'node:path';
import { CheckpointCode, CheckpointError, describe, TorchBindError, withPath } from '../../errors';
import { type ByteSource, withSource } from '../../formats/files/byte-source';
import { loadFile } from '../../formats/pt/load';
import { NamedTensors } from '../../formats/safetensors';
import { restoreTied } from '../../formats/safetensors/load';
import { recogniseAdapted } from '../../models/layouts';
import { loadTokenizer } from '../../tokenizers';
import { bundleFiles, exists, type JsonObject, readJson, readOptionalJson } from '../files';
import {
  commonDType,
  mapIn,
  type ReadOptions,
  resolveJsonConfig,
  resolveTokenizer,
  type SavedModel,
} from '../saved-model';
import { bundle } from './bundle';
import { isHfConfig } from './hf-gpt2';
import type { DirectoryProgram, Listing, ModelFiles } from './program';

/** The file that says what a release package is: every package has one, in whatever form. */
export const releaseFile = 'release.json';

/** The checksums of all other files, as `sha256sum` writes and checks them. */
export const sumsFile = 'SHA256SUMS';

export const releaseVersion = 1;

/** Names of the weights' file. */
export const releaseWeights = ['model.safetensors', 'model.pt'] as const;

/**
 * A release package in torchbind's own form, which `gpt.export` writes: weights under the names that the parameters have here, with
 * all that inference needs. The weights are memory-mapped, so the package must not change while the model is open.
 */
export const release: DirectoryProgram = {
  name: 'release',
  place: 'directory',
  container: 'release',
  holdsOptimizer: false,
  locate: async (listing) => {
    const weights = listing.has(releaseFile) ? listing.first(releaseWeights) : undefined;
    return weights === undefined || !(await isOwnForm(listing)) ? [] : [filesIn(listing, weights)];
  },
  read: (files, options) =>
    withSource(files.weights, (source) => readRelease({ ...files, target: files.directory }, source, options)),
  write: async (target, request) => {
    if (await exists(path.join(target, releaseFile))) {
      throw new TorchBindError(
        `save: ${target} is a release package, which is written whole: gpt.export(path, { overwrite: true }). ` +
          'Save to another directory to get a bundle.',
        'ERR_TORCHBIND_SAVE',
      );
    }
    await bundle.write(target, request);
  },
};

/** A package for Hugging Face is one of their directories. */
async function isOwnForm(listing: Listing): Promise<boolean> {
  const json = listing.has(bundleFiles.config)
    ? await readJson(listing.at(bundleFiles.config)).catch(() => undefined)
    : undefined;
  return json !== undefined && !isHfConfig(json);
}

function filesIn(listing: Listing, weights: string): ModelFiles {
  return {
    directory: listing.directory,
    weights: listing.at(weights),
    others: [],
    config: bundleFiles.config,
    state: releaseFile,
  };
}

/**
 * Reads a package whose small files are in a directory, and whose weights `source` has.
 *
 * @param target what the model is said to come from
 */
export async function readRelease(
  { directory, weights: file, target }: Pick<ModelFiles, 'directory' | 'weights'> & { target: string },
  source: ByteSource,
  options: ReadOptions,
): Promise<SavedModel> {
  const at = (name: string): string => path.join(directory, name);
  const facts = await readReleaseFile(directory);
  const json = await readJson(at(bundleFiles.config));
  const tokenizer = await resolveTokenizer(options, () => loadTokenizer(directory));
  const generationConfig = await readOptionalJson(at(bundleFiles.generation));
  const { weights, recognised } = await withPath(file, async () => {
    const weights = mapIn(await loadFile(source, { device: options.device, mmap: true }));
    if (weights instanceof NamedTensors) restoreTied(weights as NamedTensors);
    return { weights, recognised: recogniseAdapted(weights) };
  });
  const step = Number.isSafeInteger(facts.step) ? (facts.step as number) : null;
  return {
    config: withPath(at(bundleFiles.config), () => resolveJsonConfig(json, recognised, options)),
    tokenizer,
    weights,
    recognised,
    training: { step, optimizerFile: null, run: null, extra: {} },
    opensInEval: true,
    generationConfig,
    optimizerState: null,
    origin: {
      program: 'release',
      path: target,
      saw: [`a release package (${releaseFile})`, ...recognised.saw],
      dtype: commonDType(weights),
      kept: new Map(),
      hasOptimizer: false,
    },
  };
}

/**
 * What a package says of itself.
 *
 * @throws CheckpointError for another version than this one
 */
export async function readReleaseFile(directory: string): Promise<JsonObject> {
  const file = path.join(directory, releaseFile);
  const json = await readJson(file);
  if (json.format_version === releaseVersion) return json;
  throw new CheckpointError(
    `${file}: format_version is ${describe(json.format_version)}, this version of torchbind reads ${releaseVersion}`,
    CheckpointCode.format,
  );
}
