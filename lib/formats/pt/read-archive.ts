import { withoutCollections } from '../../tensor/off-loop';
import { runInSlices } from '../../workers/slices';
import type { ByteSource } from '../files/byte-source';
import type { MakeBuilder, TensorArchive, ValueOptions } from './archive';
import { LegacyArchive } from './legacy-archive';
import { NativeTensors } from './native-tensors';
import { makePlanned } from './planned-tensors';
import { containerOf } from './sniff';
import { LoadedStorages, mapStorages, readStorages } from './storage-reader';
import { TarArchive } from './tar-archive';
import { PtArchive } from './zip-archive';
import type { DeviceName } from '../../tensor/schema-types';

/**
 * Opens a checkpoint of any container, and reads its pickle.
 *
 * @throws CheckpointError where the file is something else, or is not right
 */
export async function openArchive(
  source: ByteSource,
  makeBuilder: MakeBuilder,
  options: ValueOptions = {},
): Promise<TensorArchive> {
  const container = await containerOf(source);
  const archive = { zip: PtArchive, legacy: LegacyArchive, tar: TarArchive }[container];
  return archive.open(source, makeBuilder, options);
}

/**
 * Reads the storages of an archive, and makes the tensors that a `TensorPlanner` planned in its value.
 *
 * @returns the value with the tensors in it
 */
export async function readArchive(
  archive: TensorArchive,
  { device = 'cpu', mmap = false }: { device?: DeviceName; mmap?: boolean } = {},
): Promise<unknown> {
  const loaded = new LoadedStorages();
  try {
    await (mmap ? mapStorages(archive, loaded) : readStorages(archive, loaded));
    const tensors = new NativeTensors(loaded, device);
    try {
      return await runInSlices(makePlanned(archive.value, tensors, archive.pickleName), withoutCollections);
    } catch (error) {
      tensors.disposeAll();
      throw error;
    } finally {
      tensors.release();
    }
  } finally {
    loaded.dispose();
  }
}
