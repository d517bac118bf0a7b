import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import {
  checkArgument,
  checkOptions,
  CheckpointCode,
  CheckpointError,
  describe,
  type PathLike,
  requireOptions,
  toPath,
  TorchBindError,
} from '../errors';

/** Single-file checkpoints by the name that build_llm_karpathy gives them: checkpoint_{model}_{source}_step{N}_{timestamp}.pt */

/** The parts of such a name. */
export interface CheckpointFileName {
  /** Kind of the model: `bigram` for a from-scratch model, `bigramlora`, `gpt2`, `gpt2medium`. */
  model: string;
  /** Name of the training data, without the extension. */
  source: string;
  /** Number of optimizer updates made. */
  step: number;
  /** Time of the save, to the second; local time in the name. */
  saved: Date;
}

/** An existing file with such a name. */
export interface CheckpointFile extends CheckpointFileName {
  path: string;
  /** In bytes. */
  size: number;
}

/** Filter for files: all given fields must match. */
export interface CheckpointFileFilter {
  /** Kind of the model; `*` matches anything, as in `gpt2*`. */
  model?: string;
  /** Name of the data; `*` matches anything. */
  source?: string;
  /** A step, or `newest` for the file saved last. */
  step?: number | 'newest';
}

const pattern = /^checkpoint_([^_]+)_(.+)_step(\d{1,15})_(\d{8}_\d{6})(?:_compressed)?\.pt$/;

/**
 * Makes the name of a checkpoint file, such as `checkpoint_gpt2medium_carolyn_hax_step000500_11102025_231500.pt`.
 *
 * @param name `model`: dashes, underscores and blanks are removed, as in Python; `source`: a name, or the path of the
 *   data
 * @throws ERR_TORCHBIND_INVALID_ARGUMENT for an invalid part
 */
export function checkpointFileName(name: CheckpointNameOptions): string {
  requireOptions(name, ['model', 'source', 'step', 'saved'], 'checkpointFileName');
  const { model, source, step, saved = new Date() } = name;
  if (typeof model !== 'string') throw invalid(`model must be a name, got ${describe(model)}`);
  if (typeof source !== 'string') throw invalid(`source must be the name of the data, got ${describe(source)}`);
  if (!(saved instanceof Date) || Number.isNaN(saved.getTime()))
    throw invalid(`saved must be a valid Date, got ${describe(saved)}`);
  const kind = model.toLowerCase().replace(/[-_\s]/g, '');
  const data = path.parse(source).name;
  if (!/^[a-z0-9.+]+$/.test(kind)) throw invalid(`model must be a name, got ${describe(model)}`);
  if (data === '' || /[*?\0]/.test(data)) throw invalid(`source must be the name of the data, got ${describe(source)}`);
  if (!Number.isSafeInteger(step) || step < 0)
    throw invalid(`step must be an integer of at least 0, got ${describe(step)}`);
  return `checkpoint_${kind}_${data}_step${String(step).padStart(6, '0')}_${timestamp(saved)}.pt`;
}

/** Where a checkpoint of a name is looked for. */
export type CheckpointNameOptions = Omit<CheckpointFileName, 'saved'> & Partial<Pick<CheckpointFileName, 'saved'>>;

/** Parses the name of a checkpoint file; undefined for any other name. */
export function parseCheckpointFileName(name: string): CheckpointFileName | undefined {
  checkArgument(typeof name === 'string', 'the name of a file', name, 'parseCheckpointFileName');
  const [, model, source, step, time] = pattern.exec(path.basename(name)) ?? [];
  const saved = dateOf(time ?? '');
  return model === undefined || saved === undefined ? undefined : { model, source: source!, step: Number(step), saved };
}

/**
 * Lists the checkpoints of a directory by name, without opening them; the one saved last comes first.
 *
 * @throws CheckpointError ERR_TORCHBIND_CHECKPOINT_OPEN if the directory does not exist
 */
export async function findCheckpoints(from: PathLike, filter: CheckpointFileFilter = {}): Promise<CheckpointFile[]> {
  const directory = toPath(from, 'findCheckpoints');
  checkOptions(filter, ['model', 'source', 'step'], 'findCheckpoints');
  const { model, source, step } = filter;
  if (step !== undefined && step !== 'newest' && !(Number.isSafeInteger(step) && step >= 0))
    throw invalid(`step must be an integer of at least 0, or 'newest'; got ${describe(step)}`);
  for (const [key, value] of Object.entries({ model, source }))
    if (value !== undefined && typeof value !== 'string')
      throw invalid(`${key} must be a text, got ${describe(value)}`);
  const fits = (found: CheckpointFileName): boolean =>
    (model === undefined || matches(model.replace(/[-_\s]/g, ''), found.model)) &&
    (source === undefined || matches(source, found.source)) &&
    (typeof step !== 'number' || step === found.step);
  const files = (await listFiles(directory)).filter(fits);
  return step === 'newest' ? files.slice(0, 1) : files;
}

/**
 * Resolves a path whose last part may contain `*`, which matches anything. If several files match, returns the one
 * saved last. A path without `*` is returned unchanged.
 *
 * @throws CheckpointError ERR_TORCHBIND_CHECKPOINT_OPEN if no file matches
 */
export async function resolveCheckpoint(from: PathLike): Promise<string> {
  const target = toPath(from, 'resolveCheckpoint');
  const name = path.basename(target);
  if (!name.includes('*')) return target;
  const directory = path.dirname(target);
  const found = (await listFiles(directory)).find((file) => matches(name, path.basename(file.path)));
  if (found !== undefined) return found.path;
  throw new CheckpointError(`no checkpoint in ${directory} has a name like ${name}`, CheckpointCode.open);
}

async function listFiles(directory: string): Promise<CheckpointFile[]> {
  const names = await readdir(directory).catch((error: Error) => {
    throw new CheckpointError(`cannot open ${directory}: ${error.message}`, CheckpointCode.open, { cause: error });
  });
  const files: CheckpointFile[] = [];
  for (const name of names) {
    const said = parseCheckpointFileName(name);
    const file = path.join(directory, name);
    const info = said && (await stat(file).catch(() => undefined));
    if (said !== undefined && info?.isFile() === true) files.push({ ...said, path: file, size: info.size });
  }
  return files.sort((a, b) => b.saved.getTime() - a.saved.getTime() || b.step - a.step || (a.path < b.path ? 1 : -1));
}

/** Whether a text matches a pattern with `*`, ignoring case. */
function matches(glob: string, text: string): boolean {
  const parts = glob.toLowerCase().split('*');
  const lower = text.toLowerCase();
  if (parts.length === 1) return lower === parts[0];
  const [first, last] = [parts[0]!, parts.at(-1)!];
  if (lower.length < first.length + last.length || !lower.startsWith(first) || !lower.endsWith(last)) return false;
  let place = first.length;
  for (const part of parts.slice(1, -1)) {
    place = lower.indexOf(part, place);
    if (place < 0) return false;
    place += part.length;
  }
  return place <= lower.length - last.length;
}

/** mmddYYYY_HHMMSS, as Python's strftime writes it. */
function timestamp(date: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = two(date.getMonth() + 1) + two(date.getDate()) + String(date.getFullYear()).padStart(4, '0');
  return `${day}_${two(date.getHours())}${two(date.getMinutes())}${two(date.getSeconds())}`;
}

function dateOf(text: string): Date | undefined {
  const [, month, day, year, hours, minutes, seconds] =
    /^(\d\d)(\d\d)(\d{4})_(\d\d)(\d\d)(\d\d)$/.exec(text)?.map(Number) ?? [];
  if (month === undefined) return undefined;
  const date = new Date(year!, month - 1, day!, hours!, minutes!, seconds!);
  return date.getMonth() === month - 1 && date.getDate() === day ? date : undefined;
}

function invalid(reason: string): TorchBindError {
  return new TorchBindError(`checkpoint file: ${reason}`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
