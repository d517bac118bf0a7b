import { TorchBindError } from '../errors';
import type { HubReference } from './reference';

/** The hub could not be asked: no connection, or its servers do not work. What is in the cache may do. */
export class HubUnreachable extends TorchBindError {
  constructor(message: string) {
    super(message, 'ERR_TORCHBIND_HUB');
  }
}

/**
 * The error for an answer of the hub. It says neither headers nor addresses that the hub led to, which may hold secrets.
 */
export function answerError(
  { status, headers }: Pick<Response, 'status' | 'headers'>,
  { repo, revision }: HubReference,
  hasToken: boolean,
): TorchBindError {
  const kind = headers.get('x-error-code') ?? '';
  const access = hasToken ? 'the token does not give access to it' : 'no token is given: set HF_TOKEN';
  if (kind === 'GatedRepo' || (status === 403 && kind === '')) {
    return new TorchBindError(
      `hf:${repo} is gated (status ${status}), and ${access}. Accept its conditions on its page on the hub with the account of the token.`,
      'ERR_TORCHBIND_HUB_ACCESS',
    );
  }
  if (kind === 'RevisionNotFound')
    return new TorchBindError(`hf:${repo} has no revision '${revision}' (status ${status}).`, 'ERR_TORCHBIND_HUB');
  if (status === 401 || status === 403 || kind === 'RepoNotFound' || status === 404) {
    const code = status === 404 ? 'ERR_TORCHBIND_HUB' : 'ERR_TORCHBIND_HUB_ACCESS';
    return new TorchBindError(`the hub has no model hf:${repo}, or it is private (status ${status}); ${access}.`, code);
  }
  if (status === 429 || status >= 500)
    return new HubUnreachable(`the hub does not answer for hf:${repo} (status ${status}). Try again later.`);
  return new TorchBindError(`the hub refuses the request for hf:${repo} (status ${status}).`, 'ERR_TORCHBIND_HUB');
}
