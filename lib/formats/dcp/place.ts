import { existsSync, statSync } from 'node:fs';
import path from 'node:path';
import { CheckpointCode, CheckpointError } from '../../errors';
import { isPickle } from '../files/kinds';
import { isZip } from '../zip/format';

/**
 * Where the checkpoints of `torch.distributed.checkpoint` (DCP) are: a directory of `.metadata`, a pickle that says which part of
 * which tensor is where, and `__0_0.distcp`, `__1_0.distcp` and so on, one or more for each rank, with the bytes.
 */

export const metadataName = '.metadata';

/**
 * Directories of accelerate and transformers' Trainer (FSDP with `SHARDED_STATE_DICT`): the model and the optimizer are distributed
 * checkpoints of their own, in one directory.
 */
export const accelerateNames = { model: 'pytorch_model_fsdp_0', optimizer: 'optimizer_0' } as const;

/** Whether a file's name is that of a part of a distributed checkpoint. */
export function isPartName(name: string): boolean {
  return name.endsWith('.distcp');
}

/** Whether the names in a directory are those of a distributed checkpoint. */
export function isDistributed(names: readonly string[]): boolean {
  return names.includes(metadataName) && names.some(isPartName);
}

/** Whether accelerate saved a model in a directory. */
export function isOfAccelerate(directory: string): boolean {
  return existsSync(path.join(directory, accelerateNames.model, metadataName));
}

/** Where the metadata of a checkpoint are: paths within its directory. */
export function metadataFiles(directory: string): string[] {
  if (existsSync(path.join(directory, metadataName)) || !isOfAccelerate(directory)) return [metadataName];
  const files = Object.values(accelerateNames).map((name) => path.join(name, metadataName));
  return files.filter((file) => existsSync(path.join(directory, file)));
}

/** The distributed checkpoint that a path stands for: its directory, its metadata or one of its parts; undefined for none. */
export function distributedDirectory(target: string): string | undefined {
  const name = path.basename(target);
  if (name === metadataName || isPartName(name)) {
    const directory = path.dirname(target);
    return existsSync(path.join(directory, metadataName)) ? directory : undefined;
  }
  const isDirectory = statSync(target, { throwIfNoEntry: false })?.isDirectory() === true;
  return isDirectory && (existsSync(path.join(target, metadataName)) || isOfAccelerate(target)) ? target : undefined;
}

/** Whether a file is of a distributed checkpoint: its metadata, or a part, which is zips of torch.save in a row. */
export function isOfDistributed(file: string, head: Buffer): boolean {
  const isMetadata = isPickle(head) && head.includes('torch.distributed.checkpoint.metadata');
  return isMetadata || (isPartName(file) && isZip(head));
}

/** The error for a file of a distributed checkpoint whose others are missing or have other names. */
export function incomplete(file: string): CheckpointError {
  return new CheckpointError(
    `${file} is a file of a distributed checkpoint (torch.distributed.checkpoint), which cannot be opened alone: expected ` +
      `${metadataName} and the .distcp files that it names in one directory, got no ${metadataName} there. A save that was cut ` +
      'short leaves none: open the checkpoint before it.',
    CheckpointCode.open,
  );
}
