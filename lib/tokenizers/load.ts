import { stat } from 'node:fs/promises';
import path from 'node:path';
import { CheckpointCode, CheckpointError, type PathLike, toPath, withPath } from '../errors';
import { parseSettings } from '../formats/files/python-json';
import { readSmallFile } from '../formats/files/small-file';
import { tokenizerFromJson } from './from-json';
import { Gpt2Tokenizer } from './gpt2';
import { HuggingFaceTokenizer, openHuggingFaceAsync } from './hugging-face';
import { isHuggingFaceJson } from './hugging-face-json';
import { charFromMetaPickle } from './meta-pickle';
import { isFile, readJson, type Settings, settingsBeside } from './settings';
import type { Tokenizer } from './tokenizer';
import { fromVocabAndMerges } from './vocab-merges';

const files = {
  json: 'tokenizer.json',
  vocab: 'vocab.json',
  merges: 'merges.txt',
  added: 'added_tokens.json',
  meta: 'meta.pkl',
} as const;

/**
 * Loads the tokenizer in a directory, next to a checkpoint file, or in a file of its own. Contents decide:
 * `tokenizer.json` of a bundle or of Hugging Face, else `vocab.json` with `merges.txt`, else nanoGPT's `meta.pkl`.
 *
 * @returns the tokenizer; null if none is found
 * @throws CheckpointError for an invalid, too large or unsupported tokenizer, or a path that does not exist;
 *   ERR_TORCHBIND_INVALID_ARGUMENT for an invalid `tokenizer.json` of a bundle
 */
export async function loadTokenizer(from: PathLike): Promise<Tokenizer | null> {
  const target = toPath(from, 'loadTokenizer');
  const info = await stat(target).catch((error: Error) => {
    throw new CheckpointError(`cannot open ${target}: ${error.message}`, CheckpointCode.open, { cause: error });
  });
  if (info.isDirectory()) return fromDirectory(target);
  if (target.endsWith('.pkl')) return charFromMetaPickle(await readSmallFile(target), target);
  if (path.basename(target) === files.vocab || path.basename(target) === files.merges) {
    return fromPair(path.dirname(target));
  }
  return target.endsWith('.json') ? fromJsonFile(target) : fromDirectory(path.dirname(target));
}

async function fromDirectory(directory: string): Promise<Tokenizer | null> {
  const at = (name: string): string => path.join(directory, name);
  if (await isFile(at(files.json))) return fromJsonFile(at(files.json));
  if (await isFile(at(files.merges))) return fromPair(directory);
  if (await isFile(at(files.meta))) return charFromMetaPickle(await readSmallFile(at(files.meta)), at(files.meta));
  return null;
}

/** Larger files are parsed and checked on a worker thread. */
const largeFile = 256 * 1024;

async function fromJsonFile(file: string): Promise<Tokenizer> {
  const bytes = await readSmallFile(file);
  if (bytes.length > largeFile) {
    const opened = await openLarge(file, bytes);
    if (opened !== undefined) return opened;
  }
  const json = withPath(file, () => parseSettings(bytes.toString('utf8')));
  if (!isHuggingFaceJson(json)) return tokenizerFromJson(json, file);
  const { addPrefixSpace: _, ...settings } = await settingsBeside(file);
  return new HuggingFaceTokenizer(json, { where: file, ...settings });
}

/** Opens Hugging Face's tokenizer.json on a worker thread. Returns undefined for other files, and without a worker. */
async function openLarge(file: string, json: Buffer): Promise<Tokenizer | undefined> {
  // Errors in the file itself are reported before errors in the files next to it.
  const settings = await settingsBeside(file).catch((error: Error) => error);
  const { addPrefixSpace: _, ...options } = settings instanceof Error ? ({} as Settings) : settings;
  const { startToken } = options;
  const opened = await openHuggingFaceAsync({ kind: 'hugging-face', json, where: file, startToken }, options);
  if (opened && settings instanceof Error) throw settings;
  return opened ?? undefined;
}

async function fromPair(directory: string): Promise<Tokenizer> {
  const at = (name: string): string => path.join(directory, name);
  const [vocab, merges] = await Promise.all([readJson(at(files.vocab)), readSmallFile(at(files.merges))]);
  const added = (await isFile(at(files.added))) ? await readJson(at(files.added)) : {};
  const { addPrefixSpace, ...settings } = await settingsBeside(at(files.vocab));
  const json = fromVocabAndMerges(vocab, merges.toString('utf8'), { added, addPrefixSpace, where: directory });
  return new HuggingFaceTokenizer(json, { where: directory, ...settings });
}

/**
 * The tokenizer of a nanoGPT checkpoint, by the rule of its sample.py: the `meta.pkl` of its dataset, searched next to
 * the checkpoint and under `data/<dataset>` next to its directory. Without one it is GPT-2's if the model has GPT-2's
 * number of tokens or its padded form, else none.
 */
export async function loadNanoGptTokenizer(
  checkpoint: string,
  { vocabSize, dataset }: { vocabSize: number; dataset?: unknown },
): Promise<Tokenizer | null> {
  const directory = path.dirname(path.resolve(checkpoint));
  const places = [path.join(directory, files.meta)];
  // The name comes from the file: it must lead nowhere else.
  if (typeof dataset === 'string' && /^[\w.-]+$/.test(dataset) && dataset !== '..') {
    places.push(path.join(path.dirname(directory), 'data', dataset, files.meta));
  }
  for (const place of places) {
    if (await isFile(place)) return charFromMetaPickle(await readSmallFile(place), place);
  }
  return vocabSize === 50257 || vocabSize === 50304 ? new Gpt2Tokenizer() : null;
}
