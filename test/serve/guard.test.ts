/** Who may ask: keys are compared in constant time, and strangers on the network change nothing. */
import { timingSafeEqual } from 'node:crypto';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Guard, isLoopback } from '../../lib/serve/guard';

vi.mock('node:crypto', async (original) => {
  const real = await original<typeof import('node:crypto')>();
  return { ...real, timingSafeEqual: vi.fn(real.timingSafeEqual) };
});

afterEach(() => vi.mocked(timingSafeEqual).mockClear());

function guard(apiKeys: string[], isLocal: boolean): Guard {
  return new Guard(apiKeys, [], () => isLocal);
}

const ask = (key: string): Parameters<Guard['check']>[0] => ({
  method: 'POST',
  headers: { host: '127.0.0.1:80', authorization: `Bearer ${key}` },
});

describe('API keys', () => {
  it.each(['first', 'second', 'third', 'x', 'first ', 'f'.repeat(1000)])(
    'are all compared, by digests of one length, whatever is given: %s',
    (given) => {
      const check = (): void => guard(['first', 'second', 'third'], true).check(ask(given), 'key');
      if (['first', 'second', 'third', 'first '].includes(given)) check();
      else expect(check).toThrow('The API key is not right.');
      const { calls } = vi.mocked(timingSafeEqual).mock;
      expect(calls).toHaveLength(3);
      for (const pair of calls) expect(pair.map(({ byteLength }) => byteLength)).toEqual([32, 32]);
    },
  );
});

describe('a change', () => {
  it('needs a key where the server can be reached over the network', () => {
    expect(() => guard([], false).check(ask(''), 'change')).toThrow(/needs an API key/);
    guard([], true).check(ask(''), 'change');
    guard([], false).check(ask(''), 'key'); // a text changes nothing
    guard(['first'], false).check(ask('first'), 'change');
  });
});

it('only addresses of this machine are loopback', () => {
  expect(['127.0.0.1', '127.8.9.1', '::1', '[::1]', 'localhost'].filter((host) => !isLoopback(host))).toEqual([]);
  expect(['0.0.0.0', '::', '10.0.0.1', '127.example', 'localhost.example', ''].filter(isLoopback)).toEqual([]);
});
