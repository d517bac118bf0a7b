import { type PathLike, toPath } from '../errors';
import { snapshotDistributed } from '../formats/dcp/save';
import { isPartName, metadataName } from '../formats/dcp/place';
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
  await writeDistributed(value, target);
}

/** As `saveDistributed`, with other files in the same directory. */
export async function writeDistributed(
  value: unknown,
  target: string,
  more: { names: readonly string[]; write: (directory: string) => Promise<void> } = {
    names: [],
    write: async () => {},
  },
): Promise<void> {
  const { write, release } = snapshotDistributed(value);
  const isOurs = (name: string): boolean => name === metadataName || isPartName(name) || more.names.includes(name);
  try {
    await replaceDirectory(
      target,
      async (directory) => {
        await write(directory);
        await more.write(directory);
      },
      isOurs,
    );
  } finally {
    release();
  }
}
