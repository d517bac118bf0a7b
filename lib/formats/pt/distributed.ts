import { CheckpointCode, CheckpointError } from '../../errors';
import { isPickle } from '../files/kinds';
import { isZip } from '../zip/format';

/** Checkpoints of torch.distributed.checkpoint: a directory of `.metadata`, a pickle, and `__0_0.distcp` with the tensors. */

const metadataName = '.metadata';

/** Whether the names in a directory are those of a distributed checkpoint. */
export function isDistributed(names: readonly string[]): boolean {
  return names.includes(metadataName) && names.some(isPart);
}

function isPart(name: string): boolean {
  return name.endsWith('.distcp');
}

/** Whether a file is of a distributed checkpoint: its metadata, or a part, whose tensors are zips of torch.save in a row. */
export function isOfDistributed(file: string, head: Buffer): boolean {
  const isMetadata = isPickle(head) && head.includes('torch.distributed.checkpoint.metadata');
  return isMetadata || (isPart(file) && isZip(head));
}

/** The error for a distributed checkpoint, with the command that makes one file of it. */
export function distributedError(directory: string): CheckpointError {
  return new CheckpointError(
    `${directory} is a distributed checkpoint (torch.distributed.checkpoint), whose tensors are spread over .distcp files. ` +
      `Convert it to one file with Python: python -m torch.distributed.checkpoint.format_utils dcp_to_torch ${directory} model.pt`,
    CheckpointCode.unsupported,
  );
}
