import type { ByteSource } from './byte-source';
import { CheckpointCode, CheckpointError } from './errors';
import { Signature } from './zip-format';
import type { ZipReader } from './zip-reader';

/** What a file begins with, and what that says of it. */
const kinds: { what: string; test: (head: Buffer, size: number) => boolean }[] = [
  { what: 'an empty zip', test: startsWith('PK\x05\x06') },
  {
    what: 'a checkpoint in the format of PyTorch before 1.6 (not a zip); save it again with torch.save',
    test: startsWith('\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19'),
  },
  { what: 'a safetensors file; read it with loadSafetensors()', test: isSafetensors },
  {
    what: 'a tar archive, perhaps a checkpoint of PyTorch 0.1; save it again with torch.save',
    test: (head) => head.toString('latin1', 257, 262) === 'ustar',
  },
  { what: 'a NumPy array', test: startsWith('\x93NUMPY') },
  { what: 'an HDF5 file, as Keras writes them', test: startsWith('\x89HDF') },
  { what: 'a GGUF file', test: startsWith('GGUF') },
  { what: 'gzip-compressed; unpack it first', test: startsWith('\x1f\x8b') },
  { what: 'a Git LFS pointer, not the file itself; run git lfs pull', test: startsWith('version https://git-lfs') },
  {
    what: 'a bare pickle, which is not what torch.save writes',
    test: (head) => head[0] === 0x80 && head[1]! >= 2 && head[1]! <= 5,
  },
  {
    what: 'a text file',
    test: (head) => head.every((byte) => byte >= 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d),
  },
];

const headSize = 512;

/** @throws CheckpointError that says what the file is, where it is not a zip container */
export async function requireZip(source: ByteSource): Promise<void> {
  const head = await source.read(0, Math.min(headSize, source.size));
  if (head.length >= 4 && head.readUInt32LE(0) === Signature.local) return;
  const kind = kinds.find(({ test }) => test(head, source.size));
  const what = kind === undefined ? 'not a file of a kind that torchbind knows' : kind.what;
  throw new CheckpointError(`'${source.path}' is ${what}; load() reads what torch.save writes`, CheckpointCode.format, {
    offset: 0,
  });
}

/** @throws CheckpointError that says what the zip is, where it is not what torch.save writes */
export function requireTensors(zip: ZipReader, path: string): void {
  const names = [...zip.records.keys()];
  const has = (test: (name: string) => boolean): boolean => names.some(test);
  let what: string | undefined;
  if (has((name) => name.startsWith('code/')) || zip.records.has('constants.pkl'))
    what = 'a TorchScript archive, which holds a program';
  else if (zip.records.has('archive_format') || has((name) => name.startsWith('models/')))
    what = 'an archive of torch.export, which holds a program';
  else if (has((name) => name.startsWith('.data/extern_modules')))
    what = 'a torch.package archive, which holds a program';
  else if (!zip.records.has('data.pkl')) what = "a zip without a record 'data.pkl'";
  if (what === undefined) return;
  throw new CheckpointError(`'${path}' is ${what}; load() reads what torch.save writes`, CheckpointCode.format);
}

function startsWith(text: string): (head: Buffer) => boolean {
  const bytes = Buffer.from(text, 'latin1');
  return (head) => head.subarray(0, bytes.length).equals(bytes);
}

/** A 64-bit header length within the file, then JSON. */
function isSafetensors(head: Buffer, size: number): boolean {
  return head.length > 8 && head[8] === 0x7b && head.readBigUInt64LE(0) <= BigInt(size - 8);
}
