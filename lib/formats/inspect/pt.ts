import { createInflateRaw, crc32 } from 'node:zlib';
import { Readable } from 'node:stream';
import { GlobalError } from '../../pickle/globals';
import { defaultMemory, MemoryBudget } from '../../pickle/budget';
import { readPickleSteps } from '../../pickle/reader';
import { Tuple } from '../../pickle/types';
import type { MakeBuilder, TensorArchive, ValueOptions } from '../pt/archive';
import type { ByteSource } from '../files/byte-source';
import { containerError, CheckpointCode, CheckpointError } from '../../errors';
import { nonNegative, StorageRef, StorageView } from '../pt/tensor-spec';
import { addProblem, type FileInspection, newInspection, noteGlobals, noteValue, noting } from './report';
import { LegacyArchive } from '../pt/legacy-archive';
import { pickleRecord, PtArchive } from '../pt/zip-archive';
import { readPickleAt } from '../pt/pickles';
import { programIn } from '../pt/sniff';
import { TarArchive } from '../pt/tar-archive';
import { readTar } from '../pt/tar-reader';
import { TensorNotes } from '../pt/tensor-notes';
import { claimedBytes, parseStorageId, torchGlobals } from '../pt/torch-globals';
import { runInSlices } from '../../workers/slices';
import { Signature } from '../zip/format';
import { isStored, ZipReader, type ZipRecord } from '../zip/reader';

/** Larger pickles are not looked into: those of models have a few megabytes. */
const maxPickle = 128 * 2 ** 20;

/** How much of a file is read to see whether it is a pickle at all. */
const maxGuess = 4 * 2 ** 20;

/** For a pickle that is read a second time, when what the first made may still be there. */
const memoryOfSecond = 20 * 2 ** 20;

/** Unknown and harmful names alike become data: for a second look, at what `load` refuses. */
const lenient = { inert: 'all' } as const;

const notes: MakeBuilder = (bigEndian) => new TensorNotes(bigEndian);

/** The zip of `torch.save`, or another one of PyTorch. */
export async function inspectZip(source: ByteSource, verify: boolean): Promise<FileInspection> {
  const report = newInspection(source.path, source.size, 'zip');
  const zip = await noting(report, () => ZipReader.open(source, MemoryBudget.ofFile(source.size, undefined)));
  if (zip === undefined) {
    await salvageZip(source, report);
    return report;
  }
  describeZip(report, zip);
  report.checksums = zip.hasChecksums ? 'crc32' : 'zero';
  const program = programIn(zip);
  if (program !== undefined) {
    report.container.kind = 'program';
    report.container.notes.push(program);
  }
  const pickle = await noteRecords(report, zip);
  for (const name of ['version', 'byteorder'] as const) await noteText(report, zip, name);
  if ((zip.records.get(pickleRecord)?.size ?? 0) <= maxPickle) {
    const open = (reader: ZipReader, options: ValueOptions): Promise<TensorArchive> =>
      PtArchive.fromZip(reader, source, notes, options, pickle);
    await noteArchive(
      report,
      () => open(zip, {}),
      (budget) => open(zip.within(budget), lenient),
      source.size,
    );
  }
  if (verify) await verifyZip(report, source, zip);
  return report;
}

function describeZip({ container }: FileInspection, zip: ZipReader): void {
  container.records = zip.records.size;
  container.notes.push(`records in '${zip.root}/'`);
  let compressed = 0;
  for (const record of zip.records.values()) if (!isStored(record)) compressed++;
  if (compressed > 0) container.notes.push(`${compressed} compressed`);
}

/** Notes what all pickles of a zip name. Gives the bytes of that which holds the tensors. */
async function noteRecords(report: FileInspection, zip: ZipReader): Promise<Buffer | undefined> {
  let pickle: Buffer | undefined;
  for (const name of zip.records.keys()) {
    if (!name.endsWith('.pkl')) continue;
    const bytes = await noting(report, () => readPickleRecord(zip, zip.records.get(name)!));
    if (bytes === undefined) continue;
    await noteGlobals(report, bytes, name);
    if (name === pickleRecord) pickle = bytes;
  }
  return pickle;
}

async function readPickleRecord(zip: ZipReader, record: ZipRecord): Promise<Buffer> {
  if (record.size <= maxPickle) return zip.read(record);
  const message = `a pickle of ${record.size} bytes is not looked into; at most ${maxPickle} are`;
  throw new CheckpointError(message, CheckpointCode.unsupported, { record: record.name });
}

async function noteText(report: FileInspection, zip: ZipReader, name: 'version' | 'byteorder'): Promise<void> {
  const record = zip.records.get(name);
  if (record === undefined || record.size > 100) return;
  const text = (await noting(report, () => zip.read(record)))?.toString('latin1').trim();
  if (text === undefined) return;
  if (name === 'version') report.container.version = text;
  else if (text === 'little' || text === 'big') report.container.byteOrder = text;
}

/**
 * Notes what `load` would say of a file: its error, or the value. Where names or values are refused, a second look at what they stand
 * for lists the tensors. Gives whether there is a value.
 */
async function noteArchive(
  report: FileInspection,
  open: () => Promise<TensorArchive>,
  again: (budget: MemoryBudget) => Promise<TensorArchive>,
  size: number,
): Promise<boolean> {
  let archive = await noting(report, open);
  const refusals: readonly string[] = [CheckpointCode.global, CheckpointCode.unsupported, CheckpointCode.pickle];
  if (archive === undefined && report.problems.some(({ code }) => refusals.includes(code)) && !isTooMuch(report))
    archive = await quietly(() => again(new MemoryBudget(memoryOfSecond, size)));
  const found = archive;
  if (found === undefined) return false;
  report.container.notes.push(...found.notes);
  await noting(report, () => {
    const records = new Map(Array.from(found.storages.values(), (ref) => [ref.key, found.bytesOf(ref).record]));
    noteValue(report, found.value, (key) => records.get(key)!);
  });
  return true;
}

/** What asks for too much would ask for as much again. */
function isTooMuch({ problems }: FileInspection): boolean {
  return problems.some(({ code }) => code === CheckpointCode.limit);
}

/** Returns undefined on a CheckpointError, whose reason is already recorded. */
async function quietly<T>(body: () => Promise<T>): Promise<T | undefined> {
  try {
    return await body();
  } catch (error) {
    if (error instanceof CheckpointError) return undefined;
    throw error;
  }
}

/** Checks every record, in pieces. */
async function verifyZip(report: FileInspection, source: ByteSource, zip: ZipReader): Promise<void> {
  if (!zip.hasChecksums) return;
  report.verified = true;
  for (const record of zip.records.values()) {
    try {
      zip.verify(record, await checksumOf(source, record));
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error;
      report.verified = false;
      addProblem(report, error);
    }
  }
}

const pieceSize = 4 * 2 ** 20;

async function* pieces(source: ByteSource, { dataOffset, compressedSize }: ZipRecord): AsyncGenerator<Buffer> {
  for (let at = 0; at < compressedSize; at += pieceSize)
    yield await source.read(dataOffset + at, Math.min(pieceSize, compressedSize - at));
}

async function checksumOf(source: ByteSource, record: ZipRecord): Promise<number> {
  const stored = pieces(source, record);
  let [checksum, size] = [0, 0];
  try {
    for await (const piece of isStored(record) ? stored : Readable.from(stored).pipe(createInflateRaw())) {
      checksum = crc32(piece as Buffer, checksum);
      size += (piece as Buffer).length;
      if (size > record.size) break;
    }
  } catch (error) {
    if (error instanceof CheckpointError) throw error;
    throw containerError('the compressed bytes are damaged', { record: record.name, cause: error });
  }
  if (size !== record.size)
    throw containerError(`the compressed bytes do not make ${record.size}`, { record: record.name });
  return checksum;
}

/** One stream, as before PyTorch 1.6. */
export async function inspectStream(source: ByteSource): Promise<FileInspection> {
  const report = newInspection(source.path, source.size, 'stream');
  report.container.byteOrder = 'little';
  const names = ['magic number', 'protocol', 'sys_info', 'object', 'storage keys'];
  let object: Buffer | undefined;
  await noting(report, async () => {
    let position = 0;
    for (const name of names) {
      const { bytes, end } = await readPickleAt(source, position, source.size, name);
      await noteGlobals(report, bytes, name);
      if (name === 'object') object = bytes;
      position = end;
    }
  });
  const open = (options: ValueOptions): Promise<TensorArchive> => LegacyArchive.open(source, notes, options);
  const whole = await noteArchive(
    report,
    () => open({}),
    (budget) => open({ ...lenient, budget }),
    source.size,
  );
  if (!whole && !isTooMuch(report) && object !== undefined)
    await salvagePickle(report, object, 'object', memoryOfSecond);
  return report;
}

/** The tar of PyTorch 0.1. */
export async function inspectTar(source: ByteSource): Promise<FileInspection> {
  const report = newInspection(source.path, source.size, 'tar');
  report.container.byteOrder = 'little';
  await noting(report, async () => {
    const { members } = await readTar(source, new MemoryBudget());
    report.container.records = members.size;
    const pickle = members.get('pickle');
    if (pickle === undefined) return;
    const { bytes } = await readPickleAt(source, pickle.offset, pickle.offset + pickle.size, 'pickle');
    await noteGlobals(report, bytes, 'pickle');
  });
  const open = (options: ValueOptions): Promise<TensorArchive> => TarArchive.open(source, notes, options);
  await noteArchive(
    report,
    () => open({}),
    (budget) => open({ ...lenient, budget }),
    source.size,
  );
  return report;
}

/** A pickle without a container: a program's own data, or an attack. Undefined if it cannot be followed and names nothing known. */
export async function inspectPickle(source: ByteSource, certain: boolean): Promise<FileInspection | undefined> {
  const report = newInspection(source.path, source.size, 'pickle');
  const bytes = await source.read(0, Math.min(source.size, certain ? maxPickle : maxGuess));
  const isWhole = await noteGlobals(report, bytes, 'pickle');
  // What is not a pickle may look like one that computes a name.
  const names = report.globals.filter(
    ({ name, verdict }) => isWhole || (verdict === 'attack-only' && !name.includes('?')),
  );
  if (!certain && names.length === 0) return undefined;
  await salvagePickle(report, bytes, 'pickle');
  return report;
}

/** Finds the pickle of a zip that is cut short or not consistent: it is among the first records. */
async function salvageZip(source: ByteSource, report: FileInspection): Promise<void> {
  const head = await source.read(0, Math.min(source.size, 64 * 1024));
  const at = findPickle(head);
  if (at === undefined) return;
  await noting(report, async () => {
    const { bytes } = await readPickleAt(source, at, Math.min(source.size, at + maxPickle), pickleRecord);
    await noteGlobals(report, bytes, pickleRecord);
    await salvagePickle(report, bytes, pickleRecord);
  });
}

/** Offset of the bytes of data.pkl, from its local header. */
function findPickle(head: Buffer): number | undefined {
  const localHeaderSize = 30;
  for (let at = 0; at + localHeaderSize <= head.length; at++) {
    if (head.readUInt32LE(at) !== Signature.local) continue;
    const nameEnd = at + localHeaderSize + head.readUInt16LE(at + 26);
    const name = head.toString('latin1', at + localHeaderSize, nameEnd);
    const isStoredPickle = head.readUInt16LE(at + 8) === 0 && name.endsWith('/data.pkl');
    if (isStoredPickle) return nameEnd + head.readUInt16LE(at + 28);
  }
  return undefined;
}

/** Lists the tensors that a pickle claims, though the bytes for them may be missing. */
async function salvagePickle(
  report: FileInspection,
  bytes: Buffer,
  record: string,
  memory = defaultMemory,
): Promise<void> {
  const storages = new Map<string, StorageRef>();
  await noting(report, async () => {
    const globals = torchGlobals(new TensorNotes(false));
    const persistentLoad = (id: unknown): unknown => claimedStorage(id, storages);
    const budget = new MemoryBudget(memory);
    const steps = readPickleSteps(bytes, { globals, persistentLoad, inert: 'all', record, budget });
    const { value } = await runInSlices(steps);
    noteValue(report, value, (key) => `data/${key}`);
    if (report.tensors.length > 0) report.container.notes.push('the tensors are those that the pickle claims');
  });
}

function claimedStorage(id: unknown, storages: Map<string, StorageRef>): StorageRef | StorageView {
  if (!(id instanceof Tuple)) throw new GlobalError('expected the id of a storage');
  const { type, key, numel, rest } = parseStorageId(id, id.length === 6 ? 6 : 5);
  const nbytes = nonNegative(Number(claimedBytes(type, numel)), 'size');
  const storage = storages.get(key) ?? new StorageRef(key, type.dtype, type.untyped, nbytes);
  storages.set(key, storage);
  const [view] = rest;
  if (!(view instanceof Tuple)) return storage;
  const unit = type.dtype.itemSize;
  return new StorageView(storage, nonNegative(view[1], 'offset') * unit, nonNegative(view[2], 'size') * unit);
}
