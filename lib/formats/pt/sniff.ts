import type { ByteSource } from '../files/byte-source';
import { CheckpointCode, CheckpointError } from '../../errors';
import { legacyMagic } from './legacy-archive';
import { readPlain } from './pickles';
import { Signature } from '../zip/format';
import type { ZipReader } from '../zip/reader';

/** What a file begins with, and what that says of it. */
const kinds: { what: string; test: (head: Buffer, size: number) => boolean }[] = [
  { what: 'an empty zip', test: startsWith('PK\x05\x06') },
  { what: 'a safetensors file; read it with loadSafetensors()', test: isSafetensors },
  { what: 'a NumPy array', test: startsWith('\x93NUMPY') },
  { what: 'an HDF5 file, as Keras writes them', test: startsWith('\x89HDF') },
  { what: 'a GGUF file', test: startsWith('GGUF') },
  { what: 'gzip-compressed; unpack it first', test: startsWith('\x1f\x8b') },
  { what: 'a Git LFS pointer, not the file itself; run git lfs pull', test: startsWith('version https://git-lfs') },
  {
    what: 'a bare pickle, which is not what torch.save writes',
    test: isBarePickle,
  },
  {
    what: 'a text file',
    test: (head) => head.every((byte) => byte >= 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d),
  },
];

const headSize = 512;

export type Container = 'zip' | 'legacy' | 'tar';

/**
 * Which container of checkpoints a file is, by its content.
 *
 * @throws CheckpointError that says what the file is, where it is none
 */
export async function containerOf(source: ByteSource): Promise<Container> {
  const head = await source.read(0, Math.min(headSize, source.size));
  if (head.length >= 4 && head.readUInt32LE(0) === Signature.local) return 'zip';
  if (head.toString('latin1', 257, 262) === 'ustar') return 'tar';
  if (beginsWithMagic(head)) return 'legacy';
  const kind = kinds.find(({ test }) => test(head, source.size));
  const what = kind === undefined ? 'not a file of a kind that torchbind knows' : kind.what;
  throw new CheckpointError(notTorchSave(what), CheckpointCode.format, {
    offset: 0,
  });
}

/** Whether the first pickle, of whatever protocol, is the number that the format before PyTorch 1.6 begins with. */
function beginsWithMagic(head: Buffer): boolean {
  try {
    return readPlain(head, 'magic number') === legacyMagic;
  } catch (error) {
    if (error instanceof CheckpointError) return false;
    throw error;
  }
}

/** What a zip is that holds a program; undefined where it holds none. */
export function programIn(zip: ZipReader): string | undefined {
  const names = [...zip.records.keys()];
  const has = (test: (name: string) => boolean): boolean => names.some(test);
  if (zip.records.has('bytecode.pkl')) return 'an archive for the mobile interpreter (.ptl), which holds a program';
  if (has((name) => name.startsWith('code/')) || zip.records.has('constants.pkl'))
    return 'a TorchScript archive, which holds a program';
  if (has((name) => /^(archive_format$|models\/|serialized_exported_program\.json$)/.test(name)))
    return 'an archive of torch.export (.pt2), which holds a program';
  if (has((name) => /^\.data\/(extern_modules|python_version)$/.test(name)))
    return 'a torch.package archive, which holds a program';
  return undefined;
}

/** @throws CheckpointError that says what the zip is, where it is not what torch.save writes */
export function checkHoldsTensors(zip: ZipReader): void {
  const what = programIn(zip) ?? (zip.records.has('data.pkl') ? undefined : "a zip without a record 'data.pkl'");
  if (what === undefined) return;
  throw new CheckpointError(notTorchSave(what), CheckpointCode.format);
}

function notTorchSave(what: string): string {
  return `expected a file that torch.save wrote, got ${what}`;
}

function startsWith(text: string): (head: Buffer) => boolean {
  const bytes = Buffer.from(text, 'latin1');
  return (head) => head.subarray(0, bytes.length).equals(bytes);
}

/** Whether a file is one that `loadSafetensors` reads, by its content. */
export async function isSafetensorsFile(source: ByteSource): Promise<boolean> {
  return isSafetensors(await source.read(0, Math.min(headSize, source.size)), source.size);
}

/** Whether a file begins as a pickle of protocol 2 to 5. */
export function isBarePickle(head: Buffer): boolean {
  return head[0] === 0x80 && head[1]! >= 2 && head[1]! <= 5;
}

/** A 64-bit header length within the file, then JSON. */
export function isSafetensors(head: Buffer, size: number): boolean {
  return head.length > 8 && head[8] === 0x7b && head.readBigUInt64LE(0) <= BigInt(size - 8);
}
