/** Keeps two installers from working on one cache at the same time. */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FileLock } from '../lock';

/** Runs `work` while holding the lock file. Waits for another holder; `onWait` is called once when there is one. */
export async function withLock<T>(file: string, work: () => Promise<T>, onWait?: () => void): Promise<T> {
  await mkdir(path.dirname(file), { recursive: true });
  const lock = await waitForLock(file, onWait);
  try {
    return await work();
  } finally {
    lock.release();
  }
}

async function waitForLock(file: string, onWait?: () => void): Promise<FileLock> {
  for (let tries = 0; ; tries++) {
    const lock = FileLock.acquire(file);
    if (lock instanceof FileLock) return lock;
    if (tries === 0) onWait?.();
    await sleep(500);
  }
}
