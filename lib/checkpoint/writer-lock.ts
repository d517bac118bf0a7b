import path from 'node:path';
import { TorchBindError } from '../errors';
import { FileLock } from '../lock';

/** Held while a directory of checkpoints is written to. */
export const lockFile = '.lock';

interface Held {
  lock: FileLock;
  users: number;
}

const held = new Map<string, Promise<Held>>();

/**
 * Makes this process the directory's one writer, until what it returns was called as often as this was.
 *
 * @throws ERR_TORCHBIND_LOCKED where another process writes there
 */
export async function lockWriter(directory: string): Promise<() => Promise<void>> {
  const key = path.resolve(directory);
  const entry = held.get(key) ?? take(key);
  held.set(key, entry);
  const holding = await entry;
  holding.users++;
  let released = false;
  return async () => {
    if (released) return;
    released = true;
    if (--holding.users > 0) return;
    held.delete(key);
    await holding.lock.release();
  };
}

async function take(key: string): Promise<Held> {
  try {
    const lock = await FileLock.acquire(path.join(key, lockFile));
    if (lock instanceof FileLock) return { lock, users: 0 };
    throw new TorchBindError(
      `${key} is being written to by process ${lock.pid} on ${lock.host} since ${lock.since}. Wait for it, stop it, or ` +
        `save to another directory; if that process is no more, delete ${path.join(key, lockFile)}.`,
      'ERR_TORCHBIND_LOCKED',
    );
  } catch (error) {
    held.delete(key);
    throw error;
  }
}
