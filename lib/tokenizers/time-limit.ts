import vm from 'node:vm';
import { TorchBindError } from '../errors';

/** One for all: making it takes longer than most encoding. */
let shared: { script: vm.Script; context: { run?: () => void } } | undefined;

/**
 * Runs what applies regular expressions of unknown origin, and ends it where it takes too long: some take a time that
 * doubles with every letter of a text.
 *
 * @throws ERR_TORCHBIND_TOKENIZER_TIME
 */
export function runWithin<T>(milliseconds: number, compute: () => T): T {
  let result: T | undefined;
  shared ??= { script: new vm.Script('run()'), context: vm.createContext({}) as { run?: () => void } };
  const { script, context } = shared;
  context.run = () => void (result = compute());
  try {
    script.runInContext(context, { timeout: milliseconds });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
    throw new TorchBindError(
      `encode: the regular expressions of the tokenizer's file took more than ${milliseconds} ms for this text, which none ` +
        `of an honest tokenizer do. Encode a shorter text, or use another tokenizer.`,
      'ERR_TORCHBIND_TOKENIZER_TIME',
      { cause: error },
    );
  } finally {
    delete context.run;
  }
  return result as T;
}
