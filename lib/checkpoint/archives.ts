import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { CheckpointCode, CheckpointError, withPath } from '../errors';
import { ByteSource, withSource } from '../formats/files/byte-source';
import { maxSmallFile } from '../formats/files/small-file';
import { readTar } from '../formats/pt/tar-reader';
import { isZip } from '../formats/zip/format';
import { isStored, ZipReader } from '../formats/zip/reader';
import { MemoryBudget } from '../pickle/budget';
import { exists, readJson } from './files';
import { isHfConfig } from './programs/hf-gpt2';
import { readRelease, releaseFile, releaseWeights } from './programs/release';
import type { OpenModel } from './programs/program';
import type { ReadOptions, SavedModel } from './saved-model';

/**
 * Release packages in one file, `.zip` or `.tar.gz`: what `gpt.export` writes, and nothing else. They may come from anywhere, so
 * that names, kinds and sizes are checked before anything is written, and all goes to a directory of its own that is removed.
 */

/** Files of a package; theirs have about ten. */
const maxFiles = 200;

/** A package may inflate to this many bytes plus this multiple of its own size. Weights hardly compress. */
const freeInflation = 64 * 2 ** 20;
const largestRatio = 20;

/** A file of a package. */
interface Member {
  size: number;
  /** Where it begins in the source; undefined where it is compressed. */
  offset: number | undefined;
  read(): Promise<Buffer>;
}

interface Archive {
  source: ByteSource;
  members: Map<string, Member>;
}

/** Keeps a single-file package open while `use` runs. Returns undefined if the file is not a package. */
async function withArchive<T>(target: string, use: (archive: Archive) => Promise<T>): Promise<T | undefined> {
  const kind = await archiveKind(target);
  if (kind === undefined) return undefined;
  if (kind === 'zip') return withSource(target, async (source) => use({ source, members: await zipMembers(source) }));
  return inTemporary(async (directory) => {
    const tar = path.join(directory, 'package.tar');
    await withPath(target, () => inflate(target, tar));
    return withPath(target, async () => {
      const source = ByteSource.open(tar);
      try {
        return await use({ source, members: await tarMembers(source) });
      } finally {
        source.close();
      }
    });
  });
}

/** Whether a file is a package, by its bytes. A zip of PyTorch has a record `data.pkl`, and none that a package has. */
async function archiveKind(target: string): Promise<'zip' | 'gzip' | undefined> {
  let source: ByteSource;
  try {
    source = ByteSource.open(target);
  } catch {
    return undefined; // a directory, or what the caller says better
  }
  try {
    const head = await source.read(0, Math.min(4, source.size));
    if (head.length > 2 && head[0] === 0x1f && head[1] === 0x8b) return 'gzip';
    if (!isZip(head)) return undefined;
    return await isPackageZip(source);
  } finally {
    source.close();
  }
}

/** The names of a zip are at its end. */
async function isPackageZip(source: ByteSource): Promise<'zip' | undefined> {
  const length = Math.min(source.size, 128 * 1024);
  const tail = await source.read(source.size - length, length);
  return tail.includes(`/${releaseFile}`) ? 'zip' : undefined;
}

async function zipMembers(source: ByteSource): Promise<Map<string, Member>> {
  const zip = await ZipReader.open(source, new MemoryBudget(freeInflation));
  checkCount(zip.records.size);
  const members = new Map<string, Member>();
  for (const record of zip.records.values()) {
    const offset = isStored(record) ? record.dataOffset : undefined;
    members.set(checkName(record.name), { size: record.size, offset, read: () => zip.read(record) });
  }
  return members;
}

async function tarMembers(source: ByteSource): Promise<Map<string, Member>> {
  const { members: found } = await readTar(source, new MemoryBudget());
  checkCount(found.size);
  const members = new Map<string, Member>();
  const roots = new Set<string>();
  for (const [full, { offset, size }] of found) {
    const slash = full.indexOf('/');
    roots.add(full.slice(0, slash));
    const name = checkName(full.slice(slash + 1));
    if (members.has(name)) throw refuse(`two files are named '${name}'`);
    members.set(name, { size, offset, read: () => source.read(offset, size) });
  }
  if (roots.size > 1) throw refuse('expected all files in one folder');
  return members;
}

function checkCount(count: number): void {
  if (count > maxFiles) throw refuse(`expected at most ${maxFiles} files, got ${count}`);
}

/** A package is flat: what leads elsewhere, or is hidden, is not of ours. */
function checkName(name: string): string {
  if (/^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/.test(name)) return name;
  throw refuse(`expected plain names of files, got ${JSON.stringify(name.slice(0, 100))}`);
}

function refuse(reason: string): CheckpointError {
  return new CheckpointError(`it is not a release package: ${reason}`, CheckpointCode.format);
}

async function inflate(from: string, to: string): Promise<void> {
  const { size } = await stat(from);
  const most = freeInflation + largestRatio * size;
  let total = 0;
  const counter = new Transform({
    transform(chunk: Buffer, _, done) {
      total += chunk.length;
      if (total <= most) done(null, chunk);
      else {
        const message = `it inflates to more than ${most} bytes from ${size}, which no weights do: it is not a release package`;
        done(new CheckpointError(message, CheckpointCode.limit));
      }
    },
  });
  try {
    await pipeline(createReadStream(from), createGunzip(), counter, createWriteStream(to, { mode: 0o600 }));
  } catch (error) {
    if (error instanceof CheckpointError) throw error;
    throw new CheckpointError(
      `the compressed bytes are damaged: ${(error as Error).message}`,
      CheckpointCode.container,
      {
        cause: error,
      },
    );
  }
}

async function inTemporary<T>(use: (directory: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(path.join(tmpdir(), 'torchbind-package-'));
  try {
    return await use(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Writes files of a package into a directory. */
async function unpack({ source, members }: Archive, names: Iterable<string>, directory: string): Promise<void> {
  for (const name of names) {
    const member = members.get(name)!;
    const { size, offset } = member;
    const file = path.join(directory, name);
    if (size <= maxSmallFile) await writeFile(file, await member.read(), { flag: 'wx' });
    else if (offset === undefined)
      throw refuse(`${name} is compressed, with ${size} bytes; weights are stored as they are`);
    else await copySection(source.section(offset, size), file);
  }
}

const copySize = 4 * 2 ** 20;

async function copySection(section: ByteSource, file: string): Promise<void> {
  async function* pieces(): AsyncGenerator<Buffer> {
    const buffer = Buffer.allocUnsafe(copySize);
    for (let at = 0; at < section.size; at += copySize) {
      const piece = buffer.subarray(0, Math.min(copySize, section.size - at));
      await section.readInto(piece, at);
      yield piece;
    }
  }
  await writeFile(file, pieces(), { flag: 'wx' });
}

/**
 * Reads the model from a single-file package. Returns undefined if the file is not a package. Weights in torchbind's own form are
 * memory-mapped inside the zip; other packages are unpacked while they are read.
 */
export function openArchived(target: string, options: ReadOptions, open: OpenModel): Promise<SavedModel | undefined> {
  return withArchive(target, (archive) =>
    inTemporary(async (directory) => {
      const { members, source } = archive;
      const weights = releaseWeights.find((name) => members.get(name)?.offset !== undefined);
      const small = [...members.keys()].filter((name) => name !== weights);
      await unpack(archive, small, directory);
      const config = path.join(directory, 'config.json');
      if (!members.has(releaseFile) || !(await exists(config)))
        throw refuse(`it has no ${releaseFile} with a config.json`);
      if (weights !== undefined && !isHfConfig(await readJson(config))) {
        const { offset, size } = members.get(weights)!;
        const files = { directory, weights: path.join(target, weights), target };
        return readRelease(files, source.section(offset!, size), options);
      }
      if (weights !== undefined) await unpack(archive, [weights], directory);
      const saved = await open(directory, options);
      return { ...saved, origin: { ...saved.origin, path: target } };
    }),
  );
}

/** Runs `use` with the path of a model: for a package in one file, with that of a directory that it is unpacked to. */
export async function withUnpacked<T>(target: string, use: (path: string) => Promise<T>): Promise<T> {
  const done = await withArchive(target, (archive) =>
    inTemporary(async (directory) => {
      await unpack(archive, archive.members.keys(), directory);
      return { result: await use(directory) };
    }),
  );
  return done === undefined ? use(target) : done.result;
}

/** Whether a file is a release package, by its contents. */
export async function isReleaseArchive(file: string): Promise<boolean> {
  const found = await withArchive(file, ({ members }) => Promise.resolve(members.has(releaseFile))).catch(() => false);
  return found === true;
}
