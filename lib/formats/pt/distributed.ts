import path from 'node:path';
import { CheckpointCode, CheckpointError } from '../../errors';

/** Checkpoints of torch.distributed.checkpoint: a directory of `.metadata`, a pickle, and `__0_0.distcp` with the tensors. */

const metadataName = '.metadata';

/** Whether the names in a directory are those of a distributed checkpoint. */
export function isDistributed(names: readonly string[]): boolean {
  return names.includes(metadataName) && names.some(isPart);
}

function isPart(name: string): boolean {
  return name.endsWith('.distcp');
}

export function distributedError(directory: string, cause?: unknown): CheckpointError {
  return new CheckpointError(
    `${directory} is a distributed checkpoint (torch.distributed.checkpoint), whose tensors are spread over .distcp files. ` +
      `Convert it to one file with Python: python -m torch.distributed.checkpoint.format_utils dcp_to_torch ${directory} model.pt`,
    CheckpointCode.unsupported,
    { cause },
  );
}

/** The error for a file that could not be read: for one of a distributed checkpoint, one that says so. */
export function nameDistributed(file: string, error: unknown): unknown {
  const name = path.basename(file);
  const isOne = error instanceof CheckpointError && (isPart(name) || name === metadataName);
  return isOne ? distributedError(path.dirname(file), error) : error;
}
