import { stat } from 'node:fs/promises';
import { ByteSource } from './byte-source';
import { CheckpointCode, CheckpointError } from '../../errors';

/** The largest file beside the tensors that is read whole: those of the largest tokenizers take half of it. */
export const maxSmallFile = 64 * 2 ** 20;

/**
 * The bytes of a file that is not one of tensors: a config, a tokenizer, the state of a training.
 *
 * @throws CheckpointError naming the file, where it cannot be read, is not a regular file, or is larger than `limit`
 */
export async function readSmallFile(file: string, limit = maxSmallFile): Promise<Buffer> {
  const info = await stat(file).catch((error: Error) => {
    throw new CheckpointError(`cannot read ${file}: ${error.message}`, CheckpointCode.open, { cause: error });
  });
  if (info.isFile() && info.size === 0) return Buffer.alloc(0);
  let source: ByteSource;
  try {
    source = ByteSource.open(file);
  } catch (error) {
    throw new CheckpointError(`cannot read ${file}: ${(error as Error).message}`, CheckpointCode.open, {
      cause: error,
    });
  }
  try {
    if (source.size <= limit) return Buffer.from(await source.read(0, source.size));
    throw new CheckpointError(
      `${file} has ${source.size} bytes; at most ${limit} are read of a file of its kind. It is damaged, or not what its ` +
        'name says: replace it by the one that the program wrote',
      CheckpointCode.limit,
    );
  } finally {
    source.close();
  }
}
