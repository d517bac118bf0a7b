import type { FileHandle } from 'node:fs/promises';
import { TorchBindError } from '../../errors';
import { native } from '../../native/native';
import { ByteWriter } from '../../pickle/byte-writer';
import type { DType } from '../../tensor/dtype';
import { packTensors } from '../../tensor/off-loop';
import { dispose, tidy } from '../../tensor/scope';
import type { Tensor } from '../../tensor/tensor';
import { mapInSlices, runInSlices, turnTimer } from '../../workers/slices';
import { writeFileAtomically } from '../files/atomic-file';
import { align, defaultAlignment, magic, type MetadataValue, sizeOf, tensorType, valueTypes, version, type WrittenType } from './format'; // prettier-ignore
import { blockSize, quantizeQ8 } from './q8-0';

/** A tensor to be written. */
export interface GgufTensor {
  name: string;
  shape: readonly number[];
  type: WrittenType;
  /** Makes the values to write, as a view of the model's tensor or a small tensor of its own, which is then disposed. */
  make: () => Tensor;
}

/**
 * Writes a GGUF file. It appears complete or not at all. Tensors are made, converted and written one after the other, so that at
 * most one is in memory twice.
 *
 * @throws ERR_TORCHBIND_SAVE where it cannot be written; the signal's reason
 */
export async function writeGguf(
  target: string,
  metadata: ReadonlyMap<string, MetadataValue>,
  tensors: readonly GgufTensor[],
  signal?: AbortSignal,
): Promise<void> {
  let position = 0;
  const places = tensors.map(({ shape, type }) => {
    const place = align(position, defaultAlignment);
    position = place + sizeOf(shape, tensorType(type));
    return place;
  });
  const header = await runInSlices(encodeHeader(metadata, tensors, places));
  await writeFileAtomically(target, async (file) => {
    await writeAll(file, header, 0);
    for (const [i, tensor] of tensors.entries()) {
      signal?.throwIfAborted();
      await writeTensor(file, header.length + places[i]!, tensor, signal);
    }
    // The last tensor is padded too.
    await file.truncate(header.length + align(position, defaultAlignment));
  });
}

const dtypes: Record<Exclude<WrittenType, 'Q8_0'>, DType> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' };

async function writeTensor(
  file: FileHandle,
  position: number,
  { name, type, shape, make }: GgufTensor,
  signal: AbortSignal | undefined,
): Promise<void> {
  const made = make();
  const [packed] = await packTensors([made], type === 'Q8_0' ? 'float32' : dtypes[type]).finally(() => made.dispose());
  try {
    if (String(packed!.shape) !== String(shape))
      throw new TorchBindError(`GGUF: ${name} has shape [${packed!.shape.join()}], expected [${shape.join()}].`);
    if (type === 'Q8_0') return await writeQ8(file, position, packed!, signal);
    const nbytes = sizeOf(shape, tensorType(type));
    for (let start = 0; start < nbytes; start += partSize) {
      signal?.throwIfAborted();
      const size = Math.min(partSize, nbytes - start);
      await native().writeStorage(file.fd, position + start, packed!.handle, start, size, false);
    }
  } finally {
    dispose([packed!]);
  }
}

const partSize = 16 * 2 ** 20;

/** Number of values rounded between two checks of the time: about a millisecond. */
const sliceSize = 2 ** 16;

async function writeQ8(
  file: FileHandle,
  position: number,
  tensor: Tensor,
  signal: AbortSignal | undefined,
): Promise<void> {
  const count = tensor.numel();
  const numbersOf = (first: number): Float32Array =>
    tidy(() => {
      const slice = tensor.view([-1]).narrow(0, first, Math.min(sliceSize, count - first));
      return new Float32Array(native().toArrayBuffer(slice.handle));
    });
  const turn = turnTimer();
  let at = position;
  let parts: Uint8Array[] = [];
  const flush = async (): Promise<void> => {
    const bytes = Buffer.concat(parts);
    parts = [];
    await writeAll(file, bytes, at);
    at += bytes.length;
  };
  for (let first = 0; first < count; first += sliceSize) {
    signal?.throwIfAborted();
    parts.push(quantizeQ8(numbersOf(first)));
    if (parts.length === 64) await flush();
    await turn();
  }
  await flush();
}

/** Whether the rows of a tensor are whole blocks. */
export function fitsQ8(shape: readonly number[]): boolean {
  return shape.at(-1)! % blockSize === 0;
}

function* encodeHeader(
  metadata: ReadonlyMap<string, MetadataValue>,
  tensors: readonly GgufTensor[],
  places: readonly number[],
): Generator<void, Uint8Array, void> {
  const out = new ByteWriter();
  out.ascii(magic);
  out.uint32(version);
  out.uint64(tensors.length);
  out.uint64(metadata.size);
  for (const [key, value] of metadata) {
    out.sizedText(key);
    out.uint32(valueTypes.indexOf(value.type));
    yield* writeValue(out, value);
  }
  for (const [i, { name, shape, type }] of tensors.entries()) {
    out.sizedText(name);
    out.uint32(shape.length);
    // The length that changes fastest comes first.
    for (const length of [...shape].reverse()) out.uint64(length);
    out.uint32(tensorType(type).id);
    out.uint64(places[i]!);
  }
  const { length } = out.bytes();
  out.raw(new Uint8Array(align(length, defaultAlignment) - length));
  return out.bytes();
}

function* writeValue(out: ByteWriter, value: MetadataValue): Generator<void, void, void> {
  if (value.type === 'array') yield* writeArray(out, value);
  else if (value.type === 'string') out.sizedText(value.value);
  else if (value.type === 'bool') out.uint8(Number(value.value));
  else if (value.type === 'f32') out.float32(value.value);
  else if (value.type === 'i32') out.int32(value.value);
  else out.uint32(value.value);
}

function* writeArray(
  out: ByteWriter,
  { of, value }: Extract<MetadataValue, { type: 'array' }>,
): Generator<void, void, void> {
  out.uint32(valueTypes.indexOf(of));
  out.uint64(value.length);
  if (of !== 'string') {
    out.raw(new Uint8Array((of === 'f32' ? Float32Array.from(value) : Int32Array.from(value)).buffer));
    return;
  }
  yield* mapInSlices(value, (item) => out.sizedText(item));
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}
