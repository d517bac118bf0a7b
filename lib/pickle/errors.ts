import { checkArgument, checkOptions, TorchBindError } from '../errors';

/** Where in a file a checkpoint is at fault, and why the error was thrown. */
export interface CheckpointErrorDetails {
  /** Byte offset of the fault: within `record` where one is named, within the file otherwise. */
  offset?: number;
  /** Record of the container, as `data.pkl` or `data/3`. */
  record?: string;
  cause?: unknown;
}

/** Stable codes of `CheckpointError`; the last part says what is wrong. */
export const CheckpointCode = {
  /** No such file, or no permission to read it. */
  open: 'ERR_TORCHBIND_CHECKPOINT_OPEN',
  /** The file is of a kind that this function does not read. */
  format: 'ERR_TORCHBIND_CHECKPOINT_FORMAT',
  /** The file ends too early. */
  truncated: 'ERR_TORCHBIND_CHECKPOINT_TRUNCATED',
  /** The zip container contradicts itself. */
  container: 'ERR_TORCHBIND_CHECKPOINT_CONTAINER',
  /** Bytes do not have the checksum that the file states. */
  checksum: 'ERR_TORCHBIND_CHECKPOINT_CHECKSUM',
  /** The pickle stream is malformed. */
  pickle: 'ERR_TORCHBIND_CHECKPOINT_PICKLE',
  /** The pickle names a class or function that is not on the list of known ones. */
  global: 'ERR_TORCHBIND_CHECKPOINT_GLOBAL',
  /** A tensor's claims do not fit its storage. */
  tensor: 'ERR_TORCHBIND_CHECKPOINT_TENSOR',
  /** Known, valid, and not supported. */
  unsupported: 'ERR_TORCHBIND_CHECKPOINT_UNSUPPORTED',
  /** What the file makes would take more memory than is allowed. */
  limit: 'ERR_TORCHBIND_CHECKPOINT_LIMIT',
} as const;

export type CheckpointCode = (typeof CheckpointCode)[keyof typeof CheckpointCode];

/** The one error that reading a checkpoint file throws, whatever is wrong with the file. */
export class CheckpointError extends TorchBindError {
  readonly offset: number | undefined;
  readonly record: string | undefined;

  constructor(message: string, code: CheckpointCode, details: CheckpointErrorDetails = {}) {
    checkDetails(message, details);
    super(message + place(details), code, details.cause === undefined ? undefined : { cause: details.cause });
    this.offset = details.offset;
    this.record = details.record;
  }
}

function checkDetails(message: string, details: CheckpointErrorDetails): void {
  checkArgument(typeof message === 'string', 'a text', message, 'CheckpointError');
  checkOptions(details, ['offset', 'record', 'cause'], 'CheckpointError');
  const { offset = 0, record = '' } = details;
  checkArgument(typeof offset === 'number', "a number for 'offset'", offset, 'CheckpointError');
  checkArgument(typeof record === 'string', "a name for 'record'", record, 'CheckpointError');
}

function place({ offset, record }: CheckpointErrorDetails): string {
  if (offset === undefined && record === undefined) return '';
  const parts: string[] = [];
  if (record !== undefined) parts.push(`record '${record}'`);
  if (offset !== undefined) parts.push(`byte ${offset}`);
  return ` (${parts.join(', ')})`;
}
