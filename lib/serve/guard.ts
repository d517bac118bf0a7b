import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import { HttpError } from './http-error';

/** Sent with each answer: pages load nothing from elsewhere, run no inline script and are in no frame. */
export const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-store',
};

/** What a route needs. */
export type Access = 'open' | 'key' | 'change';

export interface Arrived {
  method: string;
  headers: IncomingHttpHeaders;
}

/** Decides who may ask for what. */
export class Guard {
  private readonly keys: readonly Buffer[];

  constructor(
    apiKeys: readonly string[],
    private readonly allowedHosts: readonly string[],
    /** Whether the server listens on this machine alone. */
    private readonly isLocal: () => boolean,
  ) {
    this.keys = apiKeys.map(digest);
  }

  /** @throws HttpError 401, 403, 421 */
  check({ method, headers }: Arrived, access: Access): void {
    this.checkHost(headers.host);
    // To follow a link from another site to a page is allowed.
    if (access === 'open' && (method === 'GET' || method === 'HEAD')) return;
    this.checkOrigin(headers);
    if (this.keys.length > 0) return this.checkKey(headers.authorization);
    if (access === 'change' && !this.isLocal())
      throw new HttpError(403, 'Over the network this needs an API key, and this server has none.', {
        code: 'no_api_key',
      });
  }

  /**
   * A page of another site can make its own name point to this machine, and is then of the same origin as this server (DNS rebinding).
   * It cannot change the name, which the header tells.
   */
  private checkHost(host: string | undefined): void {
    const name = hostName(host ?? '');
    if (this.allowedHosts.includes(name)) return;
    const isFine = this.isLocal() ? isLoopback(name) : this.allowedHosts.length === 0 || isIP(bare(name)) !== 0;
    if (isFine) return;
    const message = `This server does not answer to the name '${name.slice(0, 100)}'. If it should, allow the name: --allowed-host NAME.`;
    throw new HttpError(421, message, { code: 'host_not_allowed' });
  }

  /** A page of another site may not send requests in the name of who looks at it, whether or not it can read the answers. */
  private checkOrigin({ origin, host, 'sec-fetch-site': site }: IncomingHttpHeaders): void {
    const isCrossSite = typeof site === 'string' && site !== 'same-origin' && site !== 'none';
    const isOwn = origin === undefined || isOriginOf(origin, host ?? '', this.allowedHosts);
    if (isOwn && (origin !== undefined || !isCrossSite)) return;
    throw new HttpError(403, 'Pages of other sites may not use this server.', { code: 'cross_site' });
  }

  private checkKey(authorization = ''): void {
    const [, given = ''] = /^Bearer +(\S+) *$/i.exec(authorization) ?? [];
    const key = digest(given);
    // All are compared, whichever fits.
    const fits = this.keys.map((known) => timingSafeEqual(known, key));
    if (fits.includes(true)) return;
    const message = given === '' ? 'Expected an API key: Authorization: Bearer KEY.' : 'The API key is not right.';
    throw new HttpError(401, message, { code: 'invalid_api_key', headers: { 'www-authenticate': 'Bearer' } });
  }
}

/** Hashes a key, so that all have the same length, as `timingSafeEqual` needs. */
function digest(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

/** Whether an address is of this machine alone. */
export function isLoopback(host: string): boolean {
  const name = bare(host);
  return name === 'localhost' || name === '::1' || (isIP(name) === 4 && name.startsWith('127.'));
}

function isOriginOf(origin: string, host: string, allowedHosts: readonly string[]): boolean {
  const [, authority] = /^https?:\/\/([^/]+)$/i.exec(origin) ?? [];
  if (authority === undefined) return false; // `null`, of files and sandboxes
  return authority.toLowerCase() === host.toLowerCase() || allowedHosts.includes(hostName(authority));
}

/** The name in a Host header, in lower case and without the port. */
function hostName(host: string): string {
  const [, name = ''] = /^(\[[^\]]*\]|[^:]*)(?::\d+)?$/.exec(host.trim()) ?? [];
  return name.toLowerCase();
}

/** An IPv6 address without its brackets. */
function bare(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}
