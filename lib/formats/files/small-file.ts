import { stat } from 'node:fs/promises';
import { CheckpointCode, CheckpointError, systemReason, withPath } from '../../errors';
import { withSource } from './byte-source';

/** The largest file next to the tensors that is read whole: those of the largest tokenizers take half of it. */
export const maxSmallFile = 64 * 2 ** 20;

/**
 * The bytes of a file that is not one of tensors: a config, a tokenizer, the state of a training.
 *
 * @throws CheckpointError naming the file, where it cannot be read, is not a regular file, or is larger than `limit`
 */
export async function readSmallFile(file: string, limit = maxSmallFile): Promise<Buffer> {
  const isEmpty = await withPath(file, async () => {
    const info = await stat(file).catch((error: unknown) => {
      throw new CheckpointError(`cannot read the file: ${systemReason(error)}`, CheckpointCode.open, { cause: error });
    });
    return info.isFile() && info.size === 0;
  });
  if (isEmpty) return Buffer.alloc(0);
  return withSource(file, async (source) => {
    if (source.size <= limit) return Buffer.from(await source.read(0, source.size));
    throw new CheckpointError(
      `expected at most ${limit} bytes in a file of its kind, got ${source.size}. It is damaged, or not what its name ` +
        'says: replace it by the one that the program wrote',
      CheckpointCode.limit,
    );
  });
}
