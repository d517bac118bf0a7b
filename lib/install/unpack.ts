/** Unpacks a wheel or a libtorch zip. */
import { createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import yauzl from 'yauzl';
import { TorchBindError } from '../errors';
import type { Reporter } from './report';

const FILE_TYPE = 0o170000;
const SYMBOLIC_LINK = 0o120000;

/** Unpacks all of `archive` into `directory`. No name in it may lead out of there, and it may hold no links. */
export async function unpack(archive: string, directory: string, reporter: Reporter): Promise<void> {
  try {
    const zip = await yauzl.openPromise(archive);
    let done = 0;
    for await (const entry of zip.eachEntry()) {
      const target = targetOf(entry, directory);
      if (entry.fileName.endsWith('/')) {
        await mkdir(target, { recursive: true });
      } else {
        await mkdir(path.dirname(target), { recursive: true });
        const mode = modeOf(entry) & 0o111 ? 0o755 : 0o644;
        await pipeline(await zip.openReadStreamPromise(entry), createWriteStream(target, { mode }));
      }
      reporter.progress(++done, zip.entryCount, 'files');
    }
  } catch (error) {
    throw damaged(archive, error as Error);
  }
}

function targetOf(entry: yauzl.Entry, directory: string): string {
  const target = path.resolve(directory, entry.fileName);
  const isInside = target.startsWith(path.resolve(directory) + path.sep);
  if (isInside && (modeOf(entry) & FILE_TYPE) !== SYMBOLIC_LINK) return target;
  throw new Error(`'${entry.fileName}' leads out of the directory to unpack into`);
}

function modeOf(entry: yauzl.Entry): number {
  return entry.externalFileAttributes >>> 16;
}

function damaged(archive: string, cause: Error): TorchBindError {
  return new TorchBindError(`${archive} cannot be unpacked: ${cause.message}`, 'ERR_TORCHBIND_ARCHIVE', { cause });
}
