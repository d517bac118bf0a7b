import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { FileLock } from '../../lib/lock';
import { withLock } from '../../lib/install/lock';
import { temporaryDirectory } from '../helpers/tmp';

test('one holder at a time, and the lock is free at the end, after a failure too', async () => {
  const file = path.join(temporaryDirectory(), 'lock');
  let inside = 0;
  let waits = 0;
  const work = async (): Promise<number> => {
    const now = ++inside;
    await sleep(50);
    inside--;
    return now;
  };
  const results = await Promise.all([1, 2, 3].map(() => withLock(file, work, () => waits++)));
  expect(results).toEqual([1, 1, 1]);
  expect(waits).toBe(2);
  await expect(withLock(file, () => Promise.reject(new Error('failed')))).rejects.toThrow('failed');
  expect(FileLock.acquire(file)).toBeInstanceOf(FileLock);
});
