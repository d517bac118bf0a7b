/** The memory of large CPU storages: it is reused, never while a tensor has it, and given back when nobody asks for it. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { full } from '../../lib/tensor/creation';
import type { Tensor } from '../../lib/tensor/tensor';
import { receive, share, type TensorTicket } from '../../lib/tensor/transfer';

const child = (name: string): string => path.join(__dirname, 'children', name);

/** A generator of numbers below a bound, the same at every run. */
function numbers(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}

describe('blocks of large storages', () => {
  test('belong to one tensor at a time', () => {
    const below = numbers(1);
    const live: { tensor: Tensor; value: number }[] = [];
    for (let i = 0; i < 600; i++) {
      if (live.length === 12 || (live.length > 0 && below(3) === 0)) {
        const [{ tensor, value }] = live.splice(below(live.length), 1) as [(typeof live)[number]];
        expect([tensor.min().item(), tensor.max().item()]).toEqual([value, value]);
        tensor.dispose();
      } else {
        // Around the smallest size of a large block, and around the one from which pages are huge.
        const size = [65_000, 65_536, 70_000, 2_090_000, 2_097_152, 2_200_000][below(6)]! + below(3);
        live.push({ tensor: full([size], i), value: i });
      }
    }
    for (const { tensor, value } of live) {
      expect([tensor.min().item(), tensor.max().item()]).toEqual([value, value]);
      tensor.dispose();
    }
  });

  test('may be freed by another thread than the one that took them', async () => {
    const worker = new Worker(child('large-blocks-worker.cjs'));
    try {
      for (let i = 1; i <= 8; i++) {
        const tensor = full([500_000], i);
        worker.postMessage(share(tensor));
        tensor.dispose();
        const [{ sum, ticket }] = (await once(worker, 'message')) as [{ sum: number; ticket: TensorTicket }];
        expect(sum).toBe(500_000 * i);
        const answer = receive(ticket);
        expect([answer.min().item(), answer.max().item()]).toEqual([-i, -i]);
        answer.dispose();
      }
    } finally {
      await worker.terminate();
    }
  });

  test('are used again by storages of their size, and go back to the system when nobody asks for them', async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [child('large-blocks-idle.cjs')]);
    const { used, kept, again, left } = JSON.parse(stdout) as Record<'used' | 'kept' | 'left', number> & {
      again: number[];
    };
    expect(again).toEqual([7, 7]);
    expect(used).toBeGreaterThan(250);
    expect(kept).toBeGreaterThan(250);
    expect(left).toBeLessThan(100);
  });
});
