import { isPlainObject } from './objects';

import { fileURLToPath } from 'node:url';
import { getSystemErrorMap } from 'node:util';

/** Options of the `Error` constructor. */
interface ErrorOptions {
  cause?: unknown;
}

/**
 * Every error that torchbind throws, from TypeScript and from C++.
 *
 * `code` is stable and documented in docs/errors.md. `message` says what was expected, what was received and what to
 * do.
 */
export class TorchBindError extends Error {
  /** Stable identifier, `ERR_TORCHBIND_...`. */
  readonly code: string;
  /** The file or directory at fault, which the message then begins with. */
  declare readonly path?: string;

  constructor(message: string, code = 'ERR_TORCHBIND', options?: ErrorOptions) {
    super(typeof message === 'string' ? message : describe(message), options);
    this.name = new.target.name;
    this.code = code;
  }
}

/**
 * Prepends a path to errors of `body`, synchronous or not: inner layers name what is in a file, not the file. An error
 * that has a path already keeps it.
 */
export function withPath<T>(path: string, body: () => T): T {
  const rethrow = (error: unknown): never => {
    if (error instanceof TorchBindError) namePath(error, path);
    throw error;
  };
  try {
    const result = body();
    return result instanceof Promise ? (result.catch(rethrow) as T) : result;
  } catch (error) {
    return rethrow(error);
  }
}

function namePath(error: { -readonly [Key in keyof TorchBindError]: TorchBindError[Key] }, path: string): void {
  if (error.path !== undefined) return;
  const { message, stack } = error;
  error.path = path;
  error.message = `${path}: ${message}`;
  error.stack = stack?.replace(message, () => error.message);
}

/** Why the operating system refused, without the path that Node adds: `no such file or directory (ENOENT)`. */
export function systemReason(error: unknown): string {
  const { code, errno, message } = error as NodeJS.ErrnoException;
  const [, text] = (errno === undefined ? undefined : getSystemErrorMap().get(errno)) ?? [];
  return text === undefined ? message : `${text} (${code})`;
}

/** Throws for an invalid argument. */
export function checkArgument(isValid: boolean, expected: string, value: unknown, where: string): void {
  if (isValid) return;
  throw new TorchBindError(`${where}: expected ${expected}, got ${describe(value)}.`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}

/** How many arguments a function without rest parameter can take. */
type ParameterCount<F> = F extends (...args: infer Args) => unknown ? Required<Args>['length'] : never;

/**
 * Wraps a function so that it refuses more arguments than it has parameters: JavaScript would drop the rest silently.
 * The type checks `count`.
 */
export function takes<F extends (...args: never[]) => unknown>(count: ParameterCount<F>, fn: F, name = fn.name): F {
  const checked = (...args: never[]): unknown => {
    refuseSurplus(name, args.length, count);
    return fn(...args);
  };
  Object.defineProperty(checked, 'name', { value: name });
  return checked as F;
}

/** Refuses a call with more arguments than there are parameters. */
export function refuseSurplus(name: string, given: number, most: number): void {
  if (given <= most) return;
  const next = most === 0 ? '' : ' Arguments with a default can be passed in the trailing options object.';
  throw new TorchBindError(
    `${name}(): ${given} arguments given, at most ${most} expected.${next}`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

/** As `checkOptions`, where the options cannot be left out. */
export function requireOptions(
  options: object,
  allowed: readonly string[],
  where: string,
  synonyms?: Readonly<Record<string, string>>,
): void {
  checkArgument(options !== undefined, `options (${allowed.join(', ')})`, options, where);
  checkOptions(options, allowed, where, synonyms);
}

/**
 * Refuses unknown keys in an options object and suggests the one that was probably meant.
 *
 * @param synonyms names that other libraries have for the options, in lower case
 */
export function checkOptions(
  options: object | undefined,
  allowed: readonly string[],
  where: string,
  synonyms: Readonly<Record<string, string>> = {},
): void {
  if (options === undefined) return;
  if (options === null || typeof options !== 'object' || Array.isArray(options)) {
    throw new TorchBindError(
      `${where}: options must be an object, got ${describe(options)}`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  for (const key of Object.keys(options)) {
    if (allowed.includes(key)) continue;
    if (!isPlainObject(options)) {
      throw new TorchBindError(
        `${where}: expected options (${allowed.join(', ')}), got ${describe(options)}. Pass it by name: { name: value }.`,
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }
    const same = key.toLowerCase();
    const near = Object.hasOwn(synonyms, same) ? synonyms[same] : closest(key, allowed);
    const hint = near === undefined ? `Known options: ${allowed.join(', ')}.` : `Did you mean '${near}'?`;
    throw new TorchBindError(`${where}: unknown option '${key}'. ${hint}`, 'ERR_TORCHBIND_UNKNOWN_OPTION');
  }
}

/** Throws unless the value is a string. */
export function checkText(value: unknown, where: string): void {
  checkArgument(typeof value === 'string', 'a string', value, where);
}

/** A path of a file or directory, or a `file:` URL, as Node's `fs` takes them. */
export type PathLike = string | URL;

/** Converts an argument to a path. Throws for URLs other than `file:`, and for values that cannot be a path. */
export function toPath(value: unknown, where: string): string {
  const path = value instanceof URL ? pathOfUrl(value, where) : value;
  checkArgument(typeof path === 'string' && !path.includes('\0'), 'a path or a file: URL', value, where);
  return path as string;
}

function pathOfUrl(url: URL, where: string): string {
  try {
    return fileURLToPath(url);
  } catch (error) {
    const next = /^https?:$/.test(url.protocol) ? ' Download the file first and give its path.' : '';
    throw new TorchBindError(
      `${where}: expected a path or a file: URL, got the URL ${url.href.slice(0, 200)}: ${(error as Error).message}.${next}`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
      { cause: error },
    );
  }
}

/** Throws for a flag that is neither a boolean nor undefined. */
export function checkFlags(flags: Readonly<Record<string, unknown>>, where: string): void {
  for (const [name, value] of Object.entries(flags))
    checkArgument(value === undefined || typeof value === 'boolean', `true or false for '${name}'`, value, where);
}

/** Refuses a `signal` that is not an AbortSignal, and an `onProgress` that cannot be called. */
export function checkWatchers({ signal, onProgress }: { signal?: unknown; onProgress?: unknown }, where: string): void {
  checkArgument(signal === undefined || signal instanceof AbortSignal, "an AbortSignal for 'signal'", signal, where);
  if (onProgress !== undefined) checkFunction(onProgress, `${where}: onProgress`);
}

/** Whether a value is a number of at least `least`. */
export function isAtLeast(value: unknown, least: number): boolean {
  return typeof value === 'number' && value >= least;
}

/** Whether a value is a number above `bound`. */
export function isAbove(value: unknown, bound: number): boolean {
  return typeof value === 'number' && value > bound;
}

/** Throws unless the value is a function. */
export function checkFunction(value: unknown, where: string): void {
  checkArgument(typeof value === 'function', 'a function', value, where);
}

/** Throws unless the value is iterable. */
export function checkIterable(value: unknown, what: string, where: string): void {
  const iterator: unknown = (value as { [Symbol.iterator]?: unknown } | null | undefined)?.[Symbol.iterator];
  const isFine =
    typeof iterator === 'function' && typeof value === 'object' && !claimsTooMuch(value) && !isDetached(value);
  checkArgument(isFine, what, value, where);
}

/** A sparse array may claim 2^32 - 1 elements, which takes minutes to walk through. */
function claimsTooMuch(value: object | null): boolean {
  return Array.isArray(value) && value.length > 2 ** 24;
}

/** Whether an array's buffer was given away. */
function isDetached(value: unknown): boolean {
  if (!ArrayBuffer.isView(value)) return false;
  try {
    (value as Uint8Array).values();
    return false;
  } catch {
    return true;
  }
}

/** The candidate nearest to `word` in edit distance, if it is near enough to be a slip of the pen. */
export function closest(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(previous[j]! + 1, current[j - 1]! + 1, substitution));
    }
    previous = current;
  }
  return previous[b.length]!;
}

/** A short description of any value for an error message: its type, and the value itself where that is short. */
export function describe(value: unknown): string {
  if (value === null) return 'null';
  if (value === undefined) return 'undefined';
  if (typeof value === 'string')
    return `string ${JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}...` : value)}`;
  if (typeof value === 'number' || typeof value === 'boolean') return `${typeof value} ${String(value)}`;
  if (typeof value === 'bigint') return `bigint ${value}n`;
  if (Array.isArray(value)) return `array of length ${value.length}`;
  if (typeof value === 'object') return `${value.constructor?.name ?? 'object'} object`;
  return typeof value;
}

/** Where in a file the fault is, and its cause. */
export interface CheckpointErrorDetails {
  /** Byte offset of the fault: within `record` where one is named, within the file otherwise. */
  offset?: number;
  /** Record of the container, as `data.pkl` or `data/3`. */
  record?: string;
  cause?: unknown;
}

/** Stable codes of `CheckpointError`; the last part says what is wrong. */
export const CheckpointCode = {
  /** No such file, or no permission to read it. */
  open: 'ERR_TORCHBIND_CHECKPOINT_OPEN',
  /** The file is of a kind that this function does not read. */
  format: 'ERR_TORCHBIND_CHECKPOINT_FORMAT',
  /** The file ends too early. */
  truncated: 'ERR_TORCHBIND_CHECKPOINT_TRUNCATED',
  /** The zip container contradicts itself. */
  container: 'ERR_TORCHBIND_CHECKPOINT_CONTAINER',
  /** Bytes do not have the checksum that the file states. */
  checksum: 'ERR_TORCHBIND_CHECKPOINT_CHECKSUM',
  /** The pickle stream is malformed. */
  pickle: 'ERR_TORCHBIND_CHECKPOINT_PICKLE',
  /** The pickle names a class or function that is not on the list of known ones. */
  global: 'ERR_TORCHBIND_CHECKPOINT_GLOBAL',
  /** A tensor's claims do not fit its storage. */
  tensor: 'ERR_TORCHBIND_CHECKPOINT_TENSOR',
  /** Valid, but not supported. */
  unsupported: 'ERR_TORCHBIND_CHECKPOINT_UNSUPPORTED',
  /** The contents would take more memory than allowed. */
  limit: 'ERR_TORCHBIND_CHECKPOINT_LIMIT',
} as const;

export type CheckpointCode = (typeof CheckpointCode)[keyof typeof CheckpointCode];

/** The error for every fault in a checkpoint file. */
export class CheckpointError extends TorchBindError {
  readonly offset: number | undefined;
  readonly record: string | undefined;

  constructor(message: string, code: CheckpointCode, details: CheckpointErrorDetails = {}) {
    checkDetails(message, details);
    super(message + place(details), code, details.cause === undefined ? undefined : { cause: details.cause });
    this.offset = details.offset;
    this.record = details.record;
  }
}

/** The error for a container that contradicts itself, at a byte of the file or elsewhere. */
export function containerError(message: string, place: number | CheckpointErrorDetails = {}): CheckpointError {
  return new CheckpointError(message, CheckpointCode.container, typeof place === 'number' ? { offset: place } : place);
}

function checkDetails(message: string, details: CheckpointErrorDetails): void {
  checkArgument(typeof message === 'string', 'a text', message, 'CheckpointError');
  checkOptions(details, ['offset', 'record', 'cause'], 'CheckpointError');
  const { offset = 0, record = '' } = details;
  checkArgument(typeof offset === 'number', "a number for 'offset'", offset, 'CheckpointError');
  checkArgument(typeof record === 'string', "a name for 'record'", record, 'CheckpointError');
}

function place({ offset, record }: CheckpointErrorDetails): string {
  if (offset === undefined && record === undefined) return '';
  const parts: string[] = [];
  if (record !== undefined) parts.push(`record '${record}'`);
  if (offset !== undefined) parts.push(`byte ${offset}`);
  return ` (${parts.join(', ')})`;
}
