import { setImmediate as nextTurn } from 'node:timers/promises';
import path from 'node:path';
import { type ByteSource, withSource } from '../files/byte-source';
import { CheckpointCode, CheckpointError } from '../../errors';
import { inspectPickle, inspectStream, inspectTar, inspectZip } from './pt';
import { addProblem, type FileInspection, newInspection, noting } from './report';
import { readHeader, type SafetensorsEntry } from '../safetensors/header';
import { isShardIndex, readIndex } from '../safetensors/shards';
import { isPickle, isSafetensors, kindOf } from '../files/kinds';
import { containerOf, headOf } from '../pt/sniff';
import { distributedDirectory } from '../dcp/place';
import { inspectDistributed } from './distributed';
import { isGguf } from '../gguf/read';
import { inspectGguf } from './gguf';

/**
 * Describes one file of tensors, or the shards that an index names, by its metadata: tensors are not read. With `verify`
 * the whole file is, and its checksums are compared.
 *
 * @throws CheckpointError where the file cannot be opened or is empty; all else that is wrong is in the report
 */
export async function inspectFile(file: string, verify = false): Promise<FileInspection> {
  const directory = distributedDirectory(file);
  if (directory !== undefined) return inspectDistributed(directory, verify);
  return withSource(file, (source) => inspectSource(source, verify));
}

export async function inspectSource(source: ByteSource, verify: boolean): Promise<FileInspection> {
  const head = await headOf(source);
  if (isSafetensors(head, source.size) || (head[8] === 0x7b && source.path.endsWith('.safetensors')))
    return inspectSafetensors(source);
  if (isGguf(head)) return inspectGguf(source);
  if (await isShardIndex(source)) return inspectShards(source, verify);
  try {
    const container = await containerOf(source);
    // At the first call the modules that read it are compiled now, which fills a turn of the event loop.
    await nextTurn();
    if (container === 'zip') return await inspectZip(source, verify);
    return await (container === 'legacy' ? inspectStream(source) : inspectTar(source));
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
    const isCertain = isPickle(head);
    const mayBePickle = isCertain || kindOf(head, source.size) === undefined;
    const report =
      (mayBePickle ? await inspectPickle(source, isCertain) : undefined) ??
      newInspection(source.path, source.size, 'unknown');
    report.problems.unshift({ code: error.code, message: error.message, file: null });
    return report;
  }
}

async function inspectSafetensors(source: ByteSource): Promise<FileInspection> {
  const report = newInspection(source.path, source.size, 'safetensors');
  report.container.byteOrder = 'little';
  const header = await noting(report, () => readHeader(source, { tolerate: (error) => addProblem(report, error) }));
  if (header === undefined) return report;
  report.metadata = Object.fromEntries(header.metadata);
  report.tensors = header.entries.map((entry) => ({
    name: entry.name,
    dtype: entry.dtype.torch ?? entry.dtype.name,
    shape: torchShape(entry),
    bytes: entry.end - entry.begin,
    kind: 'tensor',
    storage: null,
    file: null,
  }));
  return report;
}

/** PyTorch counts two 4-bit numbers as one element. */
function torchShape({ shape, dtype }: SafetensorsEntry): number[] {
  return dtype.packed === 1 ? shape : [...shape.slice(0, -1), shape.at(-1)! / dtype.packed];
}

/** Maximum number of problems: an index may name a hundred thousand missing files. */
const maxProblems = 100;

/** The files that an index names, as one. */
async function inspectShards(source: ByteSource, verify: boolean): Promise<FileInspection> {
  const report = newInspection(source.path, source.size, 'shards');
  const weightMap = await noting(report, () => readIndex(source));
  if (weightMap === undefined) return { ...report, container: { ...report.container, kind: 'unknown' } };
  const files = [...new Set(weightMap.values())];
  report.container.records = files.length;
  for (const file of files) {
    const shard = await noting(report, () => inspectShard(path.join(path.dirname(source.path), file), verify));
    if (shard !== undefined) addShard(report, shard, file);
    if (report.problems.length > maxProblems) break;
  }
  const found = new Map(report.tensors.map(({ name, file }) => [name, file]));
  for (const [name, file] of weightMap) {
    if (found.get(name) === file) continue;
    const message = `the index promises ${JSON.stringify(name.slice(0, 200))} in '${file}', which does not hold it`;
    report.problems.push({ code: CheckpointCode.container, message, file });
    if (report.problems.length > maxProblems) break;
  }
  return report;
}

/** An index within an index leads nowhere. */
async function inspectShard(file: string, verify: boolean): Promise<FileInspection> {
  return withSource(file, async (source) => {
    if (!(await isShardIndex(source))) return inspectSource(source, verify);
    throw new CheckpointError('expected a file of weights, got an index', CheckpointCode.format);
  });
}

/** Adds the contents of another file of the same checkpoint. */
export function mergeFile(report: FileInspection, other: FileInspection, file: string): void {
  report.size += other.size;
  report.tensors = report.tensors.concat(other.tensors.map((tensor) => ({ ...tensor, file })));
  report.shared = report.shared.concat(other.shared.map((shared) => ({ ...shared, file })));
  report.metadata = { ...report.metadata, ...other.metadata };
  if (other.verified !== null) report.verified = other.verified && report.verified !== false;
  report.problems.push(...other.problems.map((problem) => ({ ...problem, file })));
  const known = new Set(report.globals.map(({ name }) => name));
  const more = other.globals.filter(({ name }) => !known.has(name));
  report.globals = report.globals.concat(more.map((info) => ({ ...info, record: `${file}: ${info.record}` })));
}

function addShard(report: FileInspection, shard: FileInspection, file: string): void {
  mergeFile(report, shard, file);
  report.checksums = shard.checksums;
  const kind = `files of kind ${shard.container.kind}`;
  if (!report.container.notes.includes(kind)) report.container.notes.push(kind);
}
