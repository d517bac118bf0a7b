import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { describe } from '../errors';
import { CheckpointCode, CheckpointError } from '../formats/errors';
import { exists, manifestFile, readJson, writeJson } from './files';

const formatVersion = 1;

interface FileRecord {
  size: number;
  sha256: string;
}

/** The contents of `manifest.json`. */
export interface Manifest {
  format_version: number;
  /** Optimizer updates made; null where the bundle holds no training state. */
  step: number | null;
  /** Every file of the bundle but the manifest, by name. */
  files: Record<string, FileRecord>;
}

/** Writes the manifest of the files in a directory: the last thing to be written. */
export async function writeManifest(directory: string, names: readonly string[], step: number | null): Promise<void> {
  const files: Record<string, FileRecord> = {};
  for (const name of names) files[name] = await recordOf(path.join(directory, name));
  const manifest: Manifest = { format_version: formatVersion, step, files };
  await writeJson(path.join(directory, manifestFile), manifest);
}

/** The manifest of a directory; undefined where there is none. */
export async function readManifest(directory: string): Promise<Manifest | undefined> {
  const file = path.join(directory, manifestFile);
  if (!(await exists(file))) return undefined;
  const { format_version: version, step, files } = await readJson(file);
  if (version !== formatVersion) {
    throw refuse(file, `format_version is ${describe(version)}, this version of torchbind reads ${formatVersion}`);
  }
  if (typeof files !== 'object' || files === null || !Object.entries(files).every(isRecord)) {
    throw refuse(file, 'files must give size and sha256 of each file by its plain name');
  }
  return { format_version: version, step: typeof step === 'number' ? step : null, files: files as Manifest['files'] };
}

function isRecord([name, value]: [string, unknown]): boolean {
  const { size, sha256 } = (value ?? {}) as Partial<Record<keyof FileRecord, unknown>>;
  return path.basename(name) === name && Number.isSafeInteger(size) && /^[0-9a-f]{64}$/.test(String(sha256));
}

/**
 * Checks the files of a directory against its manifest.
 *
 * Programs that know nothing of manifests, such as the Python ones, write their files over those of a bundle and leave
 * the manifest behind. So one that is older than every file that it lists is out of date, and does not count.
 *
 * @throws CheckpointError ERR_TORCHBIND_CHECKPOINT_CHECKSUM naming the first file that differs
 */
export async function verifyBundle(directory: string): Promise<void> {
  const manifest = await readManifest(directory);
  if (manifest === undefined) return;
  for (const [name, expected] of Object.entries(manifest.files)) {
    const difference = await differenceOf(path.join(directory, name), expected);
    if (difference === undefined) continue;
    if (await isOutOfDate(directory, manifest)) return;
    throw new CheckpointError(
      `${path.join(directory, name)} is not the file that was saved: ${difference}. The bundle is damaged; ` +
        `if you replaced the file on purpose, delete ${manifestFile} beside it.`,
      CheckpointCode.checksum,
    );
  }
}

async function differenceOf(file: string, expected: FileRecord): Promise<string | undefined> {
  const info = await stat(file).catch(() => undefined);
  if (info === undefined) return 'it is missing';
  if (info.size !== expected.size) return `it has ${info.size} bytes, ${manifestFile} says ${expected.size}`;
  const { sha256 } = await recordOf(file);
  if (sha256 !== expected.sha256) return `its SHA-256 is ${sha256}, ${manifestFile} says ${expected.sha256}`;
  return undefined;
}

async function isOutOfDate(directory: string, manifest: Manifest): Promise<boolean> {
  const modified = async (name: string): Promise<bigint> =>
    stat(path.join(directory, name), { bigint: true }).then(
      (info) => info.mtimeNs,
      () => 0n,
    );
  const written = await modified(manifestFile);
  const times = await Promise.all(Object.keys(manifest.files).map(modified));
  return times.every((time) => time > written);
}

async function recordOf(file: string): Promise<FileRecord> {
  const hash = createHash('sha256');
  let size = 0;
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), async (chunks: AsyncIterable<Buffer>) => {
    for await (const chunk of chunks) {
      hash.update(chunk);
      size += chunk.length;
    }
  });
  return { size, sha256: hash.digest('hex') };
}

function refuse(file: string, reason: string): CheckpointError {
  return new CheckpointError(`${file}: ${reason}`, CheckpointCode.format);
}
