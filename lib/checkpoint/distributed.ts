import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { type PathLike, toPath } from '../errors';
import { snapshotDistributed } from '../formats/dcp/save';
import { accelerateNames, isPartName, metadataName } from '../formats/dcp/place';
import { replaceDirectory } from './replace-directory';

/**
 * Writes a state dict as a directory that `torch.distributed.checkpoint.load` takes (PyTorch's
 * `torch.distributed.checkpoint.save`, from one process): dicts and lists are taken apart, tensors and other values are written
 * one after the other. A checkpoint that is there is replaced at once; other files of the directory stay.
 *
 * What is written is what the tensors hold at the call.
 *
 * @param value a state dict: a Map or a plain object, with dicts and lists in it
 * @throws TorchBindError ERR_TORCHBIND_UNSUPPORTED_VALUE for what a checkpoint cannot hold, by its key; ERR_TORCHBIND_SAVE where
 *   the directory cannot be written
 */
export async function saveDistributed(value: unknown, directory: PathLike): Promise<void> {
  const target = toPath(directory, 'saveDistributed');
  await writeDistributed(new Map([['.', value]]), target);
}

/** As `saveDistributed`, for state dicts by the directory within the target that each gets, and with other files next to them. */
export async function writeDistributed(
  values: ReadonlyMap<string, unknown>,
  target: string,
  more: { names: readonly string[]; write: (directory: string) => Promise<void> } = {
    names: [],
    write: async () => {},
  },
): Promise<void> {
  const snapshots: { inner: string; snapshot: ReturnType<typeof snapshotDistributed> }[] = [];
  const ours: readonly string[] = [metadataName, ...Object.values(accelerateNames), ...more.names];
  try {
    for (const [inner, value] of values) snapshots.push({ inner, snapshot: snapshotDistributed(value) });
    await replaceDirectory(
      target,
      async (directory) => {
        for (const { inner, snapshot } of snapshots) {
          await mkdir(path.join(directory, inner), { recursive: true });
          await snapshot.write(path.join(directory, inner));
        }
        await more.write(directory);
      },
      (name) => ours.includes(name) || isPartName(name),
    );
  } finally {
    for (const { snapshot } of snapshots) snapshot.release();
  }
}
