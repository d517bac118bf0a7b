import { createReadStream } from 'node:fs';
import { open, readdir, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { crc32, createGzip } from 'node:zlib';
import { TorchBindError } from '../errors';
import { writeFileAtomically } from '../formats/files/atomic-file';
import { ZipWriter } from '../formats/zip/writer';

/**
 * Packs a package's directory into one file. Its bytes depend only on the files: times, owners and directory order are
 * left out.
 */

export type ArchiveKind = 'zip' | 'tar.gz';

/** Which archive a path names; undefined for a directory. */
export function archiveKindOf(target: string): ArchiveKind | undefined {
  if (/\.zip$/i.test(target)) return 'zip';
  return /\.(tar\.gz|tgz)$/i.test(target) ? 'tar.gz' : undefined;
}

/** The name without what makes it an archive's. */
export function packageName(target: string): string {
  return path.basename(path.resolve(target)).replace(/\.(zip|tar\.gz|tgz)$/i, '');
}

/** Writes the files of a directory into an archive, in which they are in one folder. */
export async function writeArchive(
  kind: ArchiveKind,
  directory: string,
  target: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const names = (await readdir(directory)).sort();
  const root =
    packageName(target)
      .replace(/[^A-Za-z0-9._-]/g, '_')
      .replace(/^[._-]+/, '') || 'package';
  const write = kind === 'zip' ? writeZip : writeTar;
  await write({ directory, names, root, target, signal });
}

/** An archive to write. */
interface Package {
  directory: string;
  /** Of its files, in their order. */
  names: readonly string[];
  /** The folder that they are in. */
  root: string;
  target: string;
  signal: AbortSignal | undefined;
}

const pieceSize = 4 * 2 ** 20;

/** Files are stored, each from a multiple of 64 bytes on, so that weights can be mapped where they are. */
async function writeZip({ directory, names, root, target, signal }: Package): Promise<void> {
  await writeFileAtomically(target, async (file) => {
    const write = async (position: number, bytes: Uint8Array): Promise<void> => {
      signal?.throwIfAborted();
      await file.write(bytes, 0, bytes.length, position);
    };
    const zip = new ZipWriter({ write }, root);
    const buffer = Buffer.allocUnsafe(pieceSize);
    for (const name of names) {
      const source = await open(path.join(directory, name));
      try {
        const { size } = await source.stat();
        await zip.addExternal(name, size, async (position) => {
          let crc = 0;
          for (let at = 0; at < size;) {
            const { bytesRead } = await source.read(buffer, 0, Math.min(pieceSize, size - at), at);
            const piece = buffer.subarray(0, bytesRead);
            crc = crc32(piece, crc);
            await write(position + at, piece);
            at += bytesRead;
          }
          return crc;
        });
      } finally {
        await source.close();
      }
    }
    await zip.close(false);
  });
}

/** The size of a file has 11 octal digits in a tar; a larger one would need an extension that not every reader has. */
const largestInTar = 8 ** 11 - 1;

async function writeTar({ directory, names, root, target, signal }: Package): Promise<void> {
  const { pack } = await import('tar-stream');
  const sizes = await Promise.all(names.map(async (name) => (await stat(path.join(directory, name))).size));
  const largest = Math.max(...sizes);
  if (largest > largestInTar) {
    throw new TorchBindError(
      `export: a .tar.gz holds files of at most ${largestInTar} bytes, and the weights have ${largest}. Export a .zip or a directory.`,
      'ERR_TORCHBIND_SAVE',
    );
  }
  await writeFileAtomically(target, async (file) => {
    const tar = pack();
    const fill = async (): Promise<void> => {
      for (const [i, name] of names.entries()) {
        const header = { name: `${root}/${name}`, size: sizes[i]!, mode: 0o644, mtime: new Date(0), uid: 0, gid: 0 };
        const entry = tar.entry(header);
        await pipeline(createReadStream(path.join(directory, name)), entry, { ...(signal && { signal }) });
      }
      tar.finalize();
    };
    const writing = pipeline(tar, createGzip({ level: 6 }), (bytes) => writeFile(file, bytes), {
      ...(signal && { signal }),
    });
    try {
      await Promise.all([fill(), writing]);
    } catch (error) {
      tar.destroy();
      await writing.catch(() => undefined);
      throw error;
    }
  });
}
