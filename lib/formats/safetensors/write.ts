import type { FileHandle } from 'node:fs/promises';
import { TorchBindError } from '../../errors';
import type { Handle } from '../../native/binding';
import { native } from '../../native/native';
import { dtypeCode } from '../../tensor/dtype';
import { forEachConcurrent } from '../files/concurrent';
import { geometryOf } from '../pt/saved-geometry';
import { maxHeaderSize, metadataName } from './header';
import type { PlannedTensor } from './plan';

export interface Progress {
  /** Bytes of tensors that are written. */
  bytes: number;
  totalBytes: number;
}

/** Alignment of the header's end, and so of every tensor whose item size is at most this. */
const headerAlignment = 8;

/** Tensors up to this size are gathered in memory. */
const smallTensor = 64 * 1024;
const gatherSize = 1024 * 1024;

/** Larger ones are written in parts, several at a time. */
const partSize = 16 * 1024 * 1024;
const concurrentWrites = 4;

/** Highest rank first, and by the bytes of their names among equals. */
export function inFileOrder(tensors: readonly PlannedTensor[]): PlannedTensor[] {
  // Without surrogates, UTF-16 and UTF-8 sort alike.
  const plain = tensors.every(({ name }) => !/[\ud800-\udfff]/.test(name));
  const compare = plain
    ? (a: string, b: string): number => (a < b ? -1 : 1)
    : (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));
  return [...tensors].sort((a, b) => b.dtype.rank - a.dtype.rank || compare(a.name, b.name));
}

/** The file up to the data of the tensors. */
export function encodeHeader(tensors: readonly PlannedTensor[], metadata: ReadonlyMap<string, string>): Buffer {
  const parts: string[] = [];
  if (metadata.size > 0) {
    const pairs = [...metadata].map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
    parts.push(`"${metadataName}":{${pairs.join()}}`);
  }
  let begin = 0;
  for (const { name, dtype, shape, nbytes } of tensors) {
    const end = begin + nbytes;
    parts.push(
      `${JSON.stringify(name)}:{"dtype":"${dtype.name}","shape":[${shape.join()}],"data_offsets":[${begin},${end}]}`,
    );
    begin = end;
  }
  const text = Buffer.from(`{${parts.join()}}`);
  const length = Math.ceil(text.length / headerAlignment) * headerAlignment;
  if (length > maxHeaderSize) {
    throw new TorchBindError(
      `saveSafetensors(): the header would have ${length} bytes, but the format allows at most ${maxHeaderSize}. Save fewer tensors, or shorter names and metadata.`,
      'ERR_TORCHBIND_UNSUPPORTED_VALUE',
    );
  }
  const header = Buffer.alloc(8 + length, ' ');
  header.writeBigUInt64LE(BigInt(length), 0);
  text.copy(header, 8);
  return header;
}

interface WriteOptions {
  onWritten: (bytes: number) => void;
  signal: AbortSignal | undefined;
}

/** Writes one file: small tensors gathered, large ones straight from their memory. */
export async function writeSafetensors(
  file: FileHandle,
  header: Buffer,
  tensors: readonly PlannedTensor[],
  options: WriteOptions,
): Promise<void> {
  let position = 0;
  let gathered: Uint8Array[] = [header];
  let length = header.length;
  let tensorBytes = 0;
  const flush = async (): Promise<void> => {
    options.signal?.throwIfAborted();
    await writeAll(file, Buffer.concat(gathered, length), position);
    position += length;
    options.onWritten(tensorBytes);
    gathered = [];
    length = tensorBytes = 0;
  };
  for (const tensor of tensors) {
    if (tensor.nbytes <= smallTensor) {
      gathered.push(new Uint8Array(native().toArrayBuffer(tensor.handle)));
      length += tensor.nbytes;
      tensorBytes += tensor.nbytes;
      if (length >= gatherSize) await flush();
    } else {
      await flush();
      await writeTensor(file, position, tensor, options);
      position += tensor.nbytes;
    }
  }
  if (length > 0) await flush();
}

async function writeTensor(
  file: FileHandle,
  position: number,
  { handle, nbytes, storageOffset, dtype }: PlannedTensor,
  { onWritten, signal }: WriteOptions,
): Promise<void> {
  const packed = storageOffset === undefined ? await pack(handle, dtypeCode[dtype.torch!]) : undefined;
  const source = packed ?? handle;
  try {
    const starts = Array.from({ length: Math.ceil(nbytes / partSize) }, (_, i) => i * partSize);
    await forEachConcurrent(starts, concurrentWrites, async (start) => {
      signal?.throwIfAborted();
      const size = Math.min(partSize, nbytes - start);
      const from = (storageOffset ?? 0) + start;
      await native().writeStorage(file.fd, position + start, source, from, size, false);
      onWritten(size);
    });
  } finally {
    if (packed !== undefined) native().dispose(packed);
  }
}

/** A contiguous copy. */
async function pack(handle: Handle, dtype: number): Promise<Handle> {
  const { offset, shape, strides } = geometryOf(handle);
  const source = native().viewStorage(handle, dtype, offset, shape, strides);
  try {
    return (await native().packTensors([source], null))[0]!;
  } finally {
    native().dispose(source);
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}
