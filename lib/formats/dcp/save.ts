import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { TorchBindError } from '../../errors';
import { DTypeValue, InertObject, Size, TorchConstant, Tuple } from '../../pickle/types';
import { writePickle } from '../../pickle/writer';
import { isDense } from '../../tensor/off-loop';
import { dispose } from '../../tensor/scope';
import { Tensor } from '../../tensor/tensor';
import { writeFileAtomically } from '../files/atomic-file';
import { fileDTypes } from '../pt/dtypes';
import { PtWriter } from '../pt/save';
import { reduceTorchValue } from '../pt/saved-values';
import { SavedStorage, SavedStorages } from '../pt/saved-storages';
import { arrayModule, storageMark } from '../pt/tensor-marks';
import { type KeyPath, metadataModule, storageModule } from './metadata';
import { metadataName } from './place';
import { leavesOf } from './tree';

/** A leaf of the state dict, ready to be written as torch.save does. */
interface Item {
  key: string;
  path: KeyPath;
  /** Undefined for a value that is not a tensor. */
  tensor: { dtype: string; shape: readonly number[] } | undefined;
  pickle: Uint8Array;
  storages: SavedStorages;
}

/** The one part file: one process writes. */
const partName = '__0_0.distcp';
const version = '1.0.0';

/**
 * Takes a state dict as it is now. What the program does with its tensors afterwards changes nothing.
 *
 * @returns writes it into an existing directory as `torch.distributed.checkpoint.save` does, and `release`, to be called in the end
 * @throws TorchBindError ERR_TORCHBIND_UNSUPPORTED_VALUE
 */
export function snapshotDistributed(stateDict: unknown): {
  write: (directory: string) => Promise<void>;
  release: () => void;
} {
  const items: Item[] = [];
  const detached: Tensor[] = [];
  const release = (): void => {
    for (const { storages } of items) storages.dispose();
    dispose(detached);
  };
  try {
    for (const [key, { path: keys, value }] of leavesOf(stateDict)) {
      const storages = new SavedStorages();
      const tensor = value instanceof Tensor && isTensorEntry(value) ? value : undefined;
      // Parameters are written as tensors, as Python's state dicts hold them.
      const written = tensor === undefined ? value : tensor.detach();
      if (tensor !== undefined) detached.push(written as Tensor);
      const item = { key, path: keys, tensor: tensor && { dtype: tensor.dtype, shape: tensor.shape }, storages };
      items.push({ ...item, pickle: pickleOf(written, storages, key) });
    }
    SavedStorage.freeze(items.flatMap(({ storages }) => storages.all));
  } catch (error) {
    release();
    throw error;
  }
  return { write: (directory) => write(items, directory), release };
}

/** Others are values: NumPy arrays, storages. */
function isTensorEntry(tensor: Tensor): boolean {
  return isDense(tensor) && fileDTypes.has(tensor.dtype) && arrayModule(tensor) === undefined && !storageMark(tensor);
}

function pickleOf(value: unknown, storages: SavedStorages, key: string): Uint8Array {
  try {
    writePickle(value, { reduce: (object) => storages.collect(object) });
    return writePickle(value, { reduce: (object) => storages.reduce(object) });
  } catch (error) {
    if (!(error instanceof TorchBindError)) throw error;
    throw new TorchBindError(`saveDistributed: ${JSON.stringify(key)}: ${error.message}`, error.code, { cause: error });
  }
}

async function write(items: readonly Item[], directory: string): Promise<void> {
  const lengths: number[] = [];
  await writeFileAtomically(path.join(directory, partName), async (handle: FileHandle) => {
    let base = 0;
    for (const { pickle, storages } of items) {
      const length = await new PtWriter(handle, 'archive', {}, base).write(pickle, storages.all);
      lengths.push(length);
      base += length;
    }
  });
  const pickle = writePickle(metadataOf(items, lengths), { reduce: reduceTorchValue });
  // Last: a directory without it is not a checkpoint.
  await writeFileAtomically(path.join(directory, metadataName), async (handle) => handle.writeFile(pickle));
}

/** PyTorch's `Metadata`, with one chunk for each tensor. */
function metadataOf(items: readonly Item[], lengths: readonly number[]): InertObject {
  const encoding = new InertObject(metadataModule, '_MEM_FORMAT_ENCODING', Tuple.of(0), true);
  const layout = new TorchConstant('layout', 'strided');
  const described = ({ tensor }: Item): InertObject => {
    if (tensor === undefined) return instance('BytesStorageMetadata', null);
    const dtype = new DTypeValue(tensor.dtype as ConstructorParameters<typeof DTypeValue>[0]);
    const properties = instance('TensorProperties', Tuple.of<unknown>(dtype, layout, false, encoding, false));
    const [offsets, sizes] = [Size.from(tensor.shape.map(() => 0)), Size.from(tensor.shape)];
    const chunk = instance('ChunkStorageMetadata', fields({ offsets, sizes }));
    return instance('TensorStorageMetadata', fields({ properties, size: sizes, chunks: [chunk] }));
  };
  let base = 0;
  const stored = items.map(({ key, tensor }, i): [InertObject, InertObject] => {
    const [offset, index] = tensor === undefined ? [null, null] : [Size.from(tensor.shape.map(() => 0)), 0];
    const length = lengths[i]!;
    const info = fields({ relative_path: partName, offset: base, length });
    base += length;
    return [
      instance('MetadataIndex', fields({ fqn: key, offset, index })),
      instance('_StorageInfo', info, storageModule),
    ];
  });
  const root = fields({
    state_dict_metadata: new Map(items.map((item) => [item.key, described(item)])),
    planner_data: new Map(items.map(({ key, path: keys }) => [key, Tuple.from(keys)])),
    storage_data: new Map(stored),
    storage_meta: null,
    version,
  });
  return instance('Metadata', root);
}

function fields(values: Record<string, unknown>): Map<string, unknown> {
  return new Map(Object.entries(values));
}

function instance(name: string, state: unknown, module = metadataModule): InertObject {
  const object = new InertObject(module, name, new Tuple(), false);
  object.state = state;
  return object;
}
