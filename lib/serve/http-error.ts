import { TorchBindError } from '../errors';

/** An error that a client is told, in the shape of OpenAI's API. */
export class HttpError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly details: { code?: string; param?: string; headers?: Record<string, string> } = {},
  ) {
    super(message);
  }
}

/** OpenAI's error object. */
export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}

/** Errors of the library that the request is to blame for. */
const OF_REQUEST =
  /^ERR_TORCHBIND_(INVALID_ARGUMENT|UNKNOWN_OPTION|UNKNOWN_CHARACTER|NO_TOKENIZER|CONTEXT_FULL|TOKENIZER_TIME|CHAT_TEMPLATE)$/;

/** The response to an error. `isExpected` is false for details that only the server's owner may read. */
export function toHttpError(error: unknown): { http: HttpError; isExpected: boolean } {
  if (error instanceof HttpError) return { http: error, isExpected: true };
  if (error instanceof TorchBindError && OF_REQUEST.test(error.code)) {
    const code = error.code.replace('ERR_TORCHBIND_', '').toLowerCase();
    return { http: new HttpError(400, error.message, { code }), isExpected: true };
  }
  if (error instanceof TorchBindError && error.code === 'ERR_TORCHBIND_LOCKED') {
    const message = 'A training run or another program is writing to this directory. Try again when it has ended.';
    return { http: new HttpError(409, message, { code: 'locked' }), isExpected: true };
  }
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ERR_STREAM_PREMATURE_CLOSE') return { http: clientHasLeft(), isExpected: true };
  // Fastify's own refusals: a body that is too large, not JSON, or of another content type.
  const { statusCode, message } = error as { statusCode?: number; message?: string };
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500)
    return { http: new HttpError(statusCode, message ?? 'The request is not valid.'), isExpected: true };
  const text = 'The server failed to answer this request. Its log says why.';
  return { http: new HttpError(500, text, { code: 'server_error' }), isExpected: false };
}

/** Nobody reads it; the number, nginx's, is for the log. */
export function clientHasLeft(): HttpError {
  return new HttpError(499, 'The client has left.');
}

export function errorBody({ status, message, details: { code, param } }: HttpError): ErrorBody {
  return { error: { message, type: typeOf(status), param: param ?? null, code: code ?? null } };
}

function typeOf(status: number): string {
  if (status === 401) return 'authentication_error';
  if (status === 403) return 'permission_error';
  if (status === 429) return 'rate_limit_error';
  return status >= 500 ? 'server_error' : 'invalid_request_error';
}
