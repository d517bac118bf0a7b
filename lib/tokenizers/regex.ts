import vm from 'node:vm';
import { TorchBindError } from '../errors';

/**
 * JavaScript's `\s` holds U+FEFF and lacks U+0085; in the regular expressions of Python's tokenizers it is Unicode's
 * White_Space property, so that a text with a byte order mark would be split differently.
 */
export function exactWhiteSpace(source: string): RegExp {
  const exact = source
    .replaceAll('[^\\s', '[^\\p{White_Space}')
    .replaceAll('\\s', '\\p{White_Space}')
    .replaceAll('\\S', '\\P{White_Space}');
  return new RegExp(exact, 'gu');
}

/** One for all: making it takes longer than most encoding. */
let shared: { script: vm.Script; context: { run?: () => void } } | undefined;

/**
 * Runs what applies regular expressions or a template of unknown origin, and ends it where it takes too long: some take a
 * time that doubles with every letter of a text. Where the process got less than half of the limit as processor time, because
 * it was stopped or the machine is busy, the computation starts again.
 *
 * @param compute gives the same result each time
 * @param tooLong the error for that
 * @throws ERR_TORCHBIND_TOKENIZER_TIME unless `tooLong` makes another
 */
export function runWithin<T>(milliseconds: number, compute: () => T, tooLong = patternsTookTooLong): T {
  let result: T | undefined;
  shared ??= { script: new vm.Script('run()'), context: vm.createContext({}) as { run?: () => void } };
  const { script, context } = shared;
  context.run = () => void (result = compute());
  const began = process.cpuUsage();
  try {
    for (;;) {
      try {
        script.runInContext(context, { timeout: milliseconds });
        return result as T;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
        const { user, system } = process.cpuUsage(began);
        if ((user + system) / 1000 > milliseconds / 2) throw tooLong(milliseconds, error);
      }
    }
  } finally {
    delete context.run;
  }
}

function patternsTookTooLong(milliseconds: number, cause: unknown): TorchBindError {
  return new TorchBindError(
    `encode: the regular expressions of the tokenizer's file took more than ${milliseconds} ms for this text, which none ` +
      `of an honest tokenizer do. Encode a shorter text, or use another tokenizer.`,
    'ERR_TORCHBIND_TOKENIZER_TIME',
    { cause },
  );
}
