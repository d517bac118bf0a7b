import { writeFileSync } from 'node:fs';
import type { ByteSource } from '../../lib/formats/files/byte-source';
import { inspectSource } from '../../lib/formats/inspect/file';
import type { FileInspection } from '../../lib/formats/inspect/report';
import { CheckpointCode, CheckpointError } from '../../lib/errors';
import { load } from '../../lib/formats/pt';
import { openArchive } from '../../lib/formats/pt/read-archive';
import { TensorPlanner } from '../../lib/formats/pt/planned-tensors';
import { readHeader } from '../../lib/formats/safetensors/header';
import { isSafetensorsFile } from '../../lib/formats/pt/sniff';
import { Tensor } from '../../lib/tensor/tensor';
import { mutations, originals, Random } from './mutate';

/** What came of many hostile files. */
export interface Figures {
  files: number;
  refused: number;
  loaded: number;
  /** Errors of another class, with the seed that makes the file again. */
  untyped: string[];
  /** Loads that took longer than a second of computing. */
  slow: string[];
  slowestMs: number;
  codes: Record<string, number>;
  /** Growth of the resident memory over the run, in MB. */
  growthMb: number;
}

/** Opens a file, and frees what comes of it. */
async function attempt(file: string, mmap: boolean): Promise<unknown> {
  try {
    disposeAll(await load(file, { mmap }));
    return undefined;
  } catch (error) {
    return error;
  }
}

function disposeAll(value: unknown): void {
  const seen = new Set<unknown>();
  const todo = [value];
  while (todo.length > 0) {
    const node = todo.pop();
    if (typeof node !== 'object' || node === null || seen.has(node)) continue;
    seen.add(node);
    if (node instanceof Tensor) node.dispose();
    else if (node instanceof Map) todo.push(...(node.values() as Iterable<unknown>));
    else if (Array.isArray(node)) for (const item of node as unknown[]) todo.push(item);
  }
}

/** A file in memory, for the parsers. */
function sourceOf(bytes: Buffer): ByteSource {
  const read = (offset: number, length: number): Promise<Buffer> =>
    offset >= 0 && length >= 0 && offset + length <= bytes.length
      ? Promise.resolve(bytes.subarray(offset, offset + length))
      : Promise.reject(new CheckpointError('cut short', CheckpointCode.truncated, { offset }));
  const source: Pick<ByteSource, 'path' | 'size' | 'read' | 'readInto' | 'peek' | 'forget' | 'prefetch'> = {
    path: 'mutated',
    size: bytes.length,
    prefetch: () => Promise.resolve(),
    peek: (offset, length) => (offset + length <= bytes.length ? bytes.subarray(offset, offset + length) : undefined),
    forget: () => undefined,
    read,
    readInto: async (target, offset) => void (await read(offset, target.length)).copy(target),
  };
  return source as ByteSource;
}

const plan = (bigEndian: boolean): TensorPlanner => new TensorPlanner(bigEndian);

/** What the parsers make of a file, without the tensors: all that is checked before those are made. */
export async function parse(bytes: Buffer): Promise<unknown> {
  if (bytes.length === 0) return new CheckpointError('empty', CheckpointCode.truncated);
  const source = sourceOf(bytes);
  try {
    await ((await isSafetensorsFile(source)) ? readHeader(source) : openArchive(source, plan));
    return undefined;
  } catch (error) {
    return error;
  }
}

/** What inspecting a file from memory throws. */
export async function look(bytes: Buffer): Promise<unknown> {
  if (bytes.length === 0) return new CheckpointError('empty', CheckpointCode.truncated);
  try {
    inspectionText(await inspectSource(sourceOf(bytes), true));
    return undefined;
  } catch (error) {
    return error;
  }
}

/** Everything that a report says must be text. */
function inspectionText(report: FileInspection): number {
  return JSON.stringify({ ...report, value: undefined }).length;
}

/** Gives `count` mutated files to the parsers, from memory, which is many times faster than to load them. */
export function runParses(seed: number, count: number): Promise<Figures> {
  return run(seed, count, async (bytes) => {
    const error = await parse(bytes);
    const seen = await look(bytes);
    // What is opened whole is inspected without an error, and nothing else than a CheckpointError ever comes.
    return seen instanceof CheckpointError && error !== undefined ? error : (seen ?? error);
  });
}

/** Loads `count` mutated files, each read and mapped in turn. */
export async function runMutations(file: string, seed: number, count: number): Promise<Figures> {
  // libtorch itself is not counted.
  for (const original of Object.values(originals)) {
    writeFileSync(file, original);
    const error = await attempt(file, false);
    if (error !== undefined) throw error as Error;
  }
  return run(seed, count, (bytes, mmap) => {
    writeFileSync(file, bytes);
    return attempt(file, mmap);
  });
}

async function run(
  seed: number,
  count: number,
  outcome: (bytes: Buffer, mmap: boolean) => Promise<unknown>,
): Promise<Figures> {
  const figures: Figures = {
    files: 0,
    refused: 0,
    loaded: 0,
    untyped: [],
    slow: [],
    slowestMs: 0,
    codes: {},
    growthMb: 0,
  };
  const names = Object.keys(mutations);
  const before = process.memoryUsage().rss;
  for (let i = 0; i < count; i++) {
    const name = names[i % names.length]!;
    const bytes = mutations[name]!(new Random(seed + i));
    const began = process.cpuUsage();
    const error = await outcome(bytes, Math.floor(i / names.length) % 2 === 1);
    record(figures, `${name}, seed ${seed + i}`, error, process.cpuUsage(began).user / 1000);
    if (i % 1000 === 0) figures.growthMb = Math.max(figures.growthMb, (process.memoryUsage().rss - before) / 2 ** 20);
  }
  return figures;
}

function record(figures: Figures, what: string, error: unknown, ms: number): void {
  figures.files++;
  figures.slowestMs = Math.max(figures.slowestMs, ms);
  if (ms > 1000) figures.slow.push(what);
  if (error === undefined) figures.loaded++;
  else if (error instanceof CheckpointError) {
    figures.refused++;
    figures.codes[error.code] = (figures.codes[error.code] ?? 0) + 1;
  } else figures.untyped.push(`${what}: ${String(error)}`);
}

/** Every beginning of every small file: each must be a typed error. */
export async function runTruncations(file: string): Promise<{ files: number; typed: number }> {
  let files = 0;
  let typed = 0;
  for (const original of Object.values(originals)) {
    for (let length = 0; length < original.length; length++) {
      writeFileSync(file, original.subarray(0, length));
      files++;
      if ((await attempt(file, length % 2 === 1)) instanceof CheckpointError) typed++;
    }
  }
  return { files, typed };
}

/** Every single bit of a zip checkpoint flipped: what still loads must be the same value. */
export async function runBitFlips(
  file: string,
): Promise<{ files: number; refused: number; same: number; different: number }> {
  const original = originals.zip!;
  writeFileSync(file, original);
  const truth = text(await load(file));
  const out = { files: 0, refused: 0, same: 0, different: 0 };
  for (let bit = 0; bit < original.length * 8; bit++) {
    const copy = Buffer.from(original);
    copy[bit >> 3]! ^= 1 << (bit & 7);
    writeFileSync(file, copy);
    out.files++;
    try {
      const value = await load(file);
      if (text(value) === truth) out.same++;
      else out.different++;
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error;
      out.refused++;
    }
  }
  return out;
}

/** Everything about a value, tensors freed. */
function text(value: unknown): string {
  const json = JSON.stringify(value, (_, item: unknown) => {
    if (item instanceof Tensor)
      return ['tensor', item.dtype, item.shape, item.strides(), [...item.toTypedArray()].join()];
    if (item instanceof Map) return ['map', item.constructor.name, [...(item as Map<unknown, unknown>)]];
    return item;
  });
  disposeAll(value);
  return json;
}
