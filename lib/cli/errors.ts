import { TorchBindError } from '../errors';

/** A command line that asks for what there is not; the exit status is 2. */
export function usageError(message: string): TorchBindError {
  return new TorchBindError(message, 'ERR_TORCHBIND_USAGE');
}
