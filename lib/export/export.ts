import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { isReleaseArchive } from '../checkpoint/archives';
import { bundleFiles, makeDirectory, writeJson, writeText } from '../checkpoint/files';
import { recordOf } from '../checkpoint/manifest';
import { releaseFile, releaseVersion, sumsFile } from '../checkpoint/programs/release';
import { textFiles } from '../checkpoint/text-files';
import { formatSums, readSums } from '../checkpoint/release-sums';
import { replaceDirectory } from '../checkpoint/replace-directory';
import type { Origin } from '../checkpoint/saved-model';
import type { StorageCopies } from '../compute';
import { TorchBindError } from '../errors';
import { configToJson } from '../models/config';
import type { GPTModel } from '../models/gpt-model';
import { encodeText } from '../tokenizers';
import { perplexity } from '../train';
import { versions } from '../versions';
import { archiveKindOf, packageName, writeArchive } from './archive';
import { curveFile, modelCard } from './card';
import { curveSvg } from './curve';
import { checkpointSize, trainingFacts } from './facts';
import { takeForHuggingFace, writeHuggingFace } from './huggingface';
import {
  checkExportOptions,
  type ExportOptions,
  type ExportResult,
  floatDType,
  type ReleaseDType,
  type Wanted,
} from './options';
import { checkExportable, ownLayout, takeWeights, writeOwnWeights } from './weights';

export type { ExportOptions, ExportResult, ReleaseDType } from './options';

/** What is known of a model besides its weights. */
export interface ExportedModel {
  model: GPTModel;
  step: number | null;
  origin: Origin | undefined;
  /** The perplexity of token ids by the model in a directory. */
  measure(directory: string, ids: ArrayLike<number>): Promise<number>;
}

/** Takes the model's weights before it returns: the model may change while they are written. */
export function exportModel(
  exported: ExportedModel,
  target: string,
  options: ExportOptions,
  copies: StorageCopies,
): Promise<ExportResult> {
  const wanted = checkExportOptions(options);
  wanted.signal?.throwIfAborted();
  checkExportable(exported.model, wanted);
  const taken = take(exported, wanted, copies);
  return write(exported, target, wanted, taken).finally(() => taken.release());
}

/** A model's weights, taken, and how they get into a directory. */
interface Taken {
  /** Names of the file of weights. */
  weightsFile: string;
  write(directory: string): Promise<void>;
  release(): void;
}

function take({ model, origin }: ExportedModel, wanted: Wanted, copies: StorageCopies): Taken {
  if (wanted.form === 'huggingface') {
    const own = takeForHuggingFace(model, wanted, copies);
    const { snapshot } = own.taken;
    return {
      weightsFile: wanted.weights === 'pt' ? 'pytorch_model.bin' : 'model.safetensors',
      write: async (directory) => {
        await snapshot.pack();
        await writeHuggingFace(directory, own, origin, wanted);
      },
      release: () => {
        snapshot.release();
        own.release();
      },
    };
  }
  const taken = takeWeights(model, ownLayout(model), copies);
  const isQuantized = model.quantization !== null;
  const tieWeights = model.config.tieWeights && wanted.quantization === null;
  const config = configToJson({ ...model.config, extra: {}, device: 'cpu', tieWeights });
  const { tokenizer, generationJson } = model;
  return {
    weightsFile: wanted.weights === 'pt' ? 'model.pt' : 'model.safetensors',
    write: async (directory) => {
      await taken.snapshot.pack();
      await writeOwnWeights(directory, taken, wanted, origin?.dtype ?? null, isQuantized);
      await writeJson(path.join(directory, bundleFiles.config), config);
      for (const [name, contents] of await textFiles({ tokenizer, generationJson }))
        await writeText(path.join(directory, name), contents);
    },
    release: () => taken.snapshot.release(),
  };
}

async function write(exported: ExportedModel, target: string, wanted: Wanted, taken: Taken): Promise<ExportResult> {
  const place = path.resolve(target);
  await checkReplaceable(place, wanted.overwrite === true);
  let result: ExportResult | undefined;
  const fill = async (directory: string): Promise<void> => {
    result = await fillPackage(exported, place, directory, wanted, taken);
  };
  const kind = archiveKindOf(place);
  if (kind === undefined) await replaceDirectory(place, fill, () => true);
  else {
    const staging = path.join(
      path.dirname(place),
      `.${path.basename(place)}.exporting-${randomBytes(6).toString('hex')}`,
    );
    await makeDirectory(path.dirname(place));
    try {
      await mkdir(staging);
      await fill(staging);
      await writeArchive(kind, staging, place, wanted.signal);
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
    result!.size = (await stat(place)).size;
  }
  return { ...result!, path: target };
}

async function fillPackage(
  { model, step, origin, ...exported }: ExportedModel,
  place: string,
  directory: string,
  wanted: Wanted,
  taken: Taken,
): Promise<ExportResult> {
  const { signal, heldText } = wanted;
  const facts = await trainingFacts(step, origin, wanted);
  const size = await checkpointSize(origin);
  const before = heldText === undefined ? undefined : await perplexityOf(model, heldText);
  signal?.throwIfAborted();
  await taken.write(directory);
  signal?.throwIfAborted();
  const dtype = dtypeOf(model, wanted, origin);
  const at = (name: string): string => path.join(directory, name);
  const { torchbind, torch } = versions();
  const { config, tokenizer, quantization } = model;
  const spec = wanted.quantization ?? quantization;
  const { lines, ...training } = facts;
  const name = wanted.name ?? packageName(place);
  const contents = {
    format_version: releaseVersion,
    name,
    form: wanted.form,
    step,
    weights: { file: taken.weightsFile, dtype, bits: spec?.bits ?? null, group_size: spec?.groupSize ?? null },
    parameters: countParameters(model),
    inputs: [{ name: 'idx', dtype: 'int64', shape: ['batch', 'time'], longest_time: config.blockSize }],
    outputs: [{ name: 'logits', dtype: 'float32', shape: ['batch', 'time', config.vocabSize] }],
    license: wanted.license ?? null,
    training: snakeCase(training),
    versions: { torchbind, libtorch: torch },
  };
  await writeJson(at(releaseFile), contents);
  let result: ExportResult['perplexity'] = null;
  if (before !== undefined) {
    result = { before: before.value, after: await exported.measure(directory, before.ids) };
    await rm(at(releaseFile));
    await writeJson(at(releaseFile), { ...contents, perplexity: result });
  }
  signal?.throwIfAborted();
  const curve = curveSvg(lines);
  if (curve !== undefined) await writeText(at(curveFile), curve);
  const card = modelCard(
    {
      name,
      config,
      parameters: contents.parameters,
      dtype,
      training: facts,
      perplexity: result,
      hasCurve: curve !== undefined,
      hasTokenizer: tokenizer !== null,
      weightsFile: taken.weightsFile,
      versions: contents.versions,
    },
    wanted,
  );
  await writeText(at('README.md'), card);
  const files: ExportResult['files'][number][] = [];
  for (const file of (await readdir(directory)).sort()) files.push({ name: file, ...(await recordOf(at(file))) });
  await writeText(at(sumsFile), formatSums(Object.fromEntries(files.map(({ name, sha256 }) => [name, sha256]))));
  files.push({ name: sumsFile, ...(await recordOf(at(sumsFile))) });
  const total = files.reduce((sum, file) => sum + file.size, 0);
  return { path: place, form: wanted.form, dtype, size: total, checkpointSize: size, files, perplexity: result };
}

function dtypeOf(
  { quantization }: GPTModel,
  { dtype, quantization: wanted }: Wanted,
  origin: Origin | undefined,
): ReleaseDType {
  const bits = (wanted ?? quantization)?.bits;
  return bits === undefined ? floatDType(dtype, origin?.dtype ?? null) : bits === 8 ? 'int8' : 'int4';
}

/** Numbers in the model before its weights are rounded: two of 4 bits share a byte, and scales are none. */
function countParameters(model: GPTModel): number {
  const bits = model.quantization?.bits;
  return model.namedParameters().reduce((sum, [name, { shape, dtype }]) => {
    if (name.endsWith('.scales')) return sum;
    const count = shape.reduce((product, length) => product * length, 1);
    return sum + (bits === 4 && dtype === 'uint8' ? 2 * count : count);
  }, 0);
}

async function perplexityOf(model: GPTModel, text: string): Promise<{ value: number; ids: Int32Array }> {
  if (model.tokenizer === null) {
    throw new TorchBindError(
      'export: heldText needs a tokenizer to read it with, and the model has none. Set gpt.tokenizer.',
      'ERR_TORCHBIND_NO_TOKENIZER',
    );
  }
  const ids = Int32Array.from(await encodeText(model.tokenizer, text));
  return { value: await perplexity(model, ids), ids };
}

/** JSON on disk has snake_case. */
function snakeCase(value: object): Record<string, unknown> {
  const name = (key: string): string => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [name(key), item as unknown]));
}

/** @throws ERR_TORCHBIND_SAVE for what is there and no package, and for a package unless it may be replaced */
async function checkReplaceable(place: string, overwrite: boolean): Promise<void> {
  const info = await stat(place).catch(() => undefined);
  if (info === undefined) return;
  const stranger = info.isDirectory() ? await strangerIn(place) : await strangerAt(place);
  if (stranger === 'nothing' || (stranger === undefined && overwrite)) return;
  const reason =
    stranger === undefined
      ? 'it holds a release package, which { overwrite: true } (--overwrite) replaces'
      : `it holds ${stranger}, which does not belong to a release package`;
  throw new TorchBindError(`export: ${place} already exists: ${reason}. Export to another path.`, 'ERR_TORCHBIND_SAVE');
}

/** What a directory holds that no package put there; `nothing` for an empty one. */
async function strangerIn(directory: string): Promise<string | undefined> {
  const names = await readdir(directory);
  if (names.length === 0) return 'nothing';
  const sums = await readSums(directory).catch(() => undefined);
  if (sums?.has(releaseFile) !== true) return names[0];
  return names.find((name) => name !== sumsFile && !sums.has(name));
}

async function strangerAt(file: string): Promise<string | undefined> {
  return (await isReleaseArchive(file)) ? undefined : 'another file';
}
