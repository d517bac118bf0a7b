import { TorchBindError } from '../errors';
import { proxyAgent } from '../install/download';
import { answerError, HubUnreachable } from './errors';
import type { HubReference } from './reference';
import type { HubSettings } from './settings';

/** Requests to the hub. */

const redirects = new Set([301, 302, 303, 307, 308]);
const maxRedirects = 5;

/** Timeout in milliseconds until an answer begins. */
const patience = 30_000;

/**
 * `fetch` that sends the token to the hub's own host and to no other, wherever the hub leads. It is given to
 * \@huggingface/hub too.
 *
 * @throws HubUnreachable without the address's query, which may be signed
 */
export function hubFetch(settings: HubSettings, { repo }: HubReference, signal?: AbortSignal): typeof fetch {
  const own = new URL(settings.endpoint).origin;
  return async (input, init = {}) => {
    let url = new URL(input instanceof Request ? input.url : input);
    let { method = 'GET', body } = init;
    for (let step = 0; step <= maxRedirects; step++) {
      const headers = new Headers(init.headers);
      if (url.origin !== own) for (const name of ['authorization', 'cookie']) headers.delete(name);
      const answer = await send(url, { ...init, method, body, headers, redirect: 'manual' }, repo, signal);
      const next = redirects.has(answer.status) ? answer.headers.get('location') : null;
      if (next === null) return answer;
      await answer.body?.cancel();
      if (!URL.canParse(next, url.href)) break;
      url = new URL(next, url);
      if (url.protocol !== 'https:' && !(url.protocol === 'http:' && own.startsWith('http:'))) break;
      if (answer.status === 303) [method, body] = ['GET', undefined];
    }
    throw new TorchBindError(
      `hf:${repo}: the hub leads to too many places, or to one without https.`,
      'ERR_TORCHBIND_HUB',
    );
  };
}

async function send(url: URL, init: RequestInit, repo: string, signal: AbortSignal | undefined): Promise<Response> {
  const controller = new AbortController();
  // An upload is answered when all of it has arrived.
  const timer = init.body == null ? setTimeout(() => controller.abort(), patience) : undefined;
  const signals = [controller.signal, ...(signal ? [signal] : []), ...(init.signal ? [init.signal] : [])];
  try {
    return await fetchThroughProxy(url, { ...init, signal: AbortSignal.any(signals) });
  } catch (error) {
    signal?.throwIfAborted();
    const { code } = ((error as Error).cause ?? error) as { code?: unknown };
    const reason = controller.signal.aborted ? 'no answer' : typeof code === 'string' ? code : 'no connection';
    throw new HubUnreachable(`the hub cannot be reached for hf:${repo} (${url.host}: ${reason}).`);
  } finally {
    clearTimeout(timer);
  }
}

/** Node's own `fetch` knows no proxy variables. That of undici takes an agent for them. */
async function fetchThroughProxy(url: URL, init: RequestInit): Promise<Response> {
  const dispatcher = proxyAgent();
  if (dispatcher === undefined) return fetch(url, init);
  const undici = await import('undici');
  const answer = await undici.fetch(url, { ...(init as object), dispatcher });
  // It ends when the answer has been read.
  void dispatcher.close();
  return answer as unknown as Response;
}

/** Runs a call of \@huggingface/hub, whose errors have addresses and answers in them: ours have not. */
export async function ask<T>(reference: HubReference, hasToken: boolean, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    const { statusCode } = error as { statusCode?: number };
    if (error instanceof TorchBindError || (error as Error).name === 'AbortError') throw error;
    if (typeof statusCode === 'number')
      throw answerError({ status: statusCode, headers: new Headers() }, reference, hasToken);
    throw new TorchBindError(`hf:${reference.repo}: the hub's answer is not what was expected.`, 'ERR_TORCHBIND_HUB');
  }
}

/** As `hubFetch`, with an error of ours for an answer without success. */
export function checkedFetch(settings: HubSettings, reference: HubReference, signal?: AbortSignal): typeof fetch {
  const plain = hubFetch(settings, reference, signal);
  return async (input, init) => {
    const answer = await plain(input, init);
    if (answer.ok) return answer;
    await answer.body?.cancel();
    throw answerError(answer, reference, settings.token !== undefined);
  };
}
