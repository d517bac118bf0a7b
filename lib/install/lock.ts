/** Keeps two installers from working on one cache at the same time. */
import { mkdir, open, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

// A holder touches its lock every few seconds: one that has not been touched for this long belongs to nobody.
const STALE_MS = 60_000;
const TOUCH_MS = 5_000;

/** Runs `work` while holding the lock file. Waits for another holder; `onWait` is called once when there is one. */
export async function withLock<T>(file: string, work: () => Promise<T>, onWait?: () => void): Promise<T> {
  await mkdir(path.dirname(file), { recursive: true });
  for (let tries = 0; !(await acquire(file)); tries++) {
    if (await isAbandoned(file)) await discard(file);
    else {
      if (tries === 0) onWait?.();
      await sleep(500);
    }
  }
  const touch = setInterval(() => void utimes(file, new Date(), new Date()).catch(() => undefined), TOUCH_MS);
  try {
    return await work();
  } finally {
    clearInterval(touch);
    await rm(file, { force: true });
  }
}

async function acquire(file: string): Promise<boolean> {
  try {
    const handle = await open(file, 'wx');
    await handle.writeFile(String(process.pid));
    await handle.close();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

async function isAbandoned(file: string): Promise<boolean> {
  try {
    if (Date.now() - (await stat(file)).mtimeMs > STALE_MS) return true;
    const pid = Number(await readFile(file, 'utf8'));
    return pid > 0 && !isRunning(pid);
  } catch {
    return false; // it went away meanwhile
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/** Of several waiters one moves the abandoned file away; the others find it gone. */
async function discard(file: string): Promise<void> {
  const aside = `${file}.${process.pid}`;
  await rename(file, aside).catch(() => undefined);
  await rm(aside, { force: true });
}
