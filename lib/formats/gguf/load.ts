import { CheckpointCode, CheckpointError } from '../../errors';
import { native } from '../../native/native';
import { noGrad } from '../../tensor/autograd';
import { type DType, dtypeCode } from '../../tensor/dtype';
import type { DeviceName } from '../../tensor/schema-types';
import { tidy } from '../../tensor/scope';
import { empty } from '../../tensor/creation';
import { type Tensor, wrap } from '../../tensor/tensor';
import { turnTimer } from '../../workers/slices';
import type { ByteSource } from '../files/byte-source';
import { readPlaced } from '../safetensors/load';
import { safetensorsDTypes } from '../safetensors/dtypes';
import { NamedTensors } from '../safetensors/shards';
import { blockBytes, blockSize, dequantizeQ8 } from './q8-0';
import { type GgufEntry, type MetadataItem, readGgufHeader } from './read';

/** Types that become tensors as they are, and Q8_0, which becomes float32. */
const dtypes: Readonly<Record<string, DType>> = {
  F32: 'float32', F16: 'float16', BF16: 'bfloat16', F64: 'float64', I8: 'int8', I16: 'int16', I32: 'int32', I64: 'int64', Q8_0: 'float32',
}; // prettier-ignore

/** The dtype that a tensor of a GGUF file gets; undefined for one that is not read. */
export function dtypeOf({ type }: GgufEntry): DType | undefined {
  return Object.hasOwn(dtypes, type.name) ? dtypes[type.name] : undefined;
}

/**
 * The tensors of a GGUF file under its own names. Numbers and texts of its metadata are in `metadata`, as text.
 *
 * @throws CheckpointError where the file is not right, or has tensors that were rounded in another way than Q8_0
 */
export async function readGguf(
  source: ByteSource,
  { device = 'cpu', mmap = false }: { device?: DeviceName | undefined; mmap?: boolean | undefined } = {},
): Promise<NamedTensors> {
  const { metadata, entries } = await readGgufHeader(source);
  for (const entry of entries) {
    if (dtypeOf(entry) !== undefined) continue;
    const message = `GGUF: ${JSON.stringify(entry.name.slice(0, 200))} is ${entry.type.name}; only ${Object.keys(dtypes).join(', ')} are read`;
    throw new CheckpointError(message, CheckpointCode.unsupported, { record: entry.name });
  }
  const isRounded = ({ type }: GgufEntry): boolean => type.name === 'Q8_0';
  const plain = entries
    .filter((entry) => !isRounded(entry))
    .map(({ name, type, shape, begin, end }) => {
      return { name, dtype: safetensorsDTypes.get(type.name)!, shape, begin, end, offset: begin };
    });
  const read = await readPlaced(source, { entries: plain, metadata: new Map(), dataOffset: 0 }, { device, mmap });
  const tensors = new NamedTensors();
  try {
    for (const entry of entries) {
      const tensor = read.get(entry.name) ?? (await readQ8(source, entry));
      tensors.set(entry.name, tensor);
      if (!isRounded(entry) || device === 'cpu') continue;
      tensors.set(entry.name, tensor.to(device));
      tensor.dispose();
    }
  } catch (error) {
    for (const tensor of [...read.values(), ...tensors.values()]) tensor.dispose();
    throw error;
  }
  for (const [key, value] of Object.entries(textsOf(metadata))) tensors.metadata.set(key, value);
  return tensors;
}

/** Numbers, texts and flags of the metadata, as text. */
export function textsOf(metadata: ReadonlyMap<string, MetadataItem>): Record<string, string> {
  const entries = Array.from(metadata, ([key, value]): [string, string] => [
    key,
    typeof value === 'object' ? `${value.length} values of ${value.list}` : String(value),
  ]);
  return Object.fromEntries(entries);
}

/** Blocks that are computed between two looks at the clock. */
const sliceBlocks = 2048;

async function readQ8(source: ByteSource, { shape, begin, end }: GgufEntry): Promise<Tensor> {
  const tensor = empty(shape);
  try {
    const turn = turnTimer();
    const sliceBytes = sliceBlocks * blockBytes;
    for (let at = begin, first = 0; at < end; at += sliceBytes, first += sliceBlocks * blockSize) {
      const bytes = await source.read(at, Math.min(sliceBytes, end - at));
      const numbers = dequantizeQ8(bytes);
      noGrad(() =>
        tidy(() => {
          const values = wrap(native().fromTypedArray(numbers, [numbers.length], dtypeCode.float32));
          tensor.view([-1]).narrow(0, first, numbers.length).copy_(values);
        }),
      );
      await turn();
    }
    return tensor;
  } catch (error) {
    tensor.dispose();
    throw error;
  }
}
