import { checkOptions, describe, TorchBindError } from '../../errors';

export interface LoadLimits {
  /** Bytes. */
  memory?: number | undefined;
}

/** @throws TorchBindError ERR_TORCHBIND_INVALID_ARGUMENT where it is no number of bytes */
export function memoryLimit(limits: LoadLimits = {}): number | undefined {
  checkOptions(limits, ['memory'], 'load: limits');
  const { memory } = limits;
  if (memory === undefined || (typeof memory === 'number' && memory >= 0)) return memory;
  throw new TorchBindError(
    `load: expected a number of bytes for the option 'limits.memory' but received ${describe(memory)}.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}
