import { type CheckpointCode, CheckpointError, TorchBindError } from '../errors';

/** An error on its way to another thread: `postMessage` would drop its class and its code. */
export interface PostedError {
  name: string;
  message: string;
  code?: string;
  stack?: string;
  cause?: PostedError;
}

/** What was thrown, as `postMessage` carries it. */
export function postError(thrown: unknown): PostedError {
  if (!(thrown instanceof Error)) return { name: 'Error', message: String(thrown) };
  const { name, message, stack, cause } = thrown;
  const { code } = thrown as { code?: unknown };
  return {
    name,
    message,
    stack,
    code: typeof code === 'string' ? code : undefined,
    cause: cause === undefined ? undefined : postError(cause),
  };
}

/**
 * The error of another thread, in the class that it had there if that is one of torchbind or of JavaScript. Its stack is that of
 * the caller; the other thread's follows.
 */
export function receiveError(posted: PostedError, callerStack?: string): Error {
  const cause = posted.cause === undefined ? undefined : receiveError(posted.cause);
  const error = rebuild(posted, cause === undefined ? undefined : { cause });
  const there = framesOf(posted.stack);
  const here = framesOf(callerStack ?? error.stack);
  error.stack = [`${posted.name}: ${posted.message}`, here, there && '    in the worker thread:', there]
    .filter((part) => part !== undefined && part !== '')
    .join('\n');
  return error;
}

const CLASSES: Readonly<Record<string, new (message: string, options?: { cause?: unknown }) => Error>> = {
  RangeError,
  SyntaxError,
  TypeError,
};

function rebuild({ name, message, code }: PostedError, options: { cause: Error } | undefined): Error {
  if (code?.startsWith('ERR_TORCHBIND') === true) {
    if (name === 'CheckpointError') return Object.assign(new CheckpointError(message, code as CheckpointCode), options);
    return new TorchBindError(message, code, options);
  }
  const error = new (Object.hasOwn(CLASSES, name) ? CLASSES[name]! : Error)(message, options);
  return code === undefined ? error : Object.assign(error, { code });
}

/** The lines of a stack that name places. */
function framesOf(stack: string | undefined): string | undefined {
  return stack
    ?.split('\n')
    .filter((line) => /^\s+at /.test(line))
    .join('\n');
}
