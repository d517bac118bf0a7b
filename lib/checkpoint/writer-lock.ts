import { realpath } from 'node:fs/promises';
import path from 'node:path';
import { TorchBindError } from '../errors';
import { FileLock } from '../lock';

/** Held while a directory of checkpoints is written to. */
export const lockFile = '.lock';

interface Held {
  lock: FileLock;
  owner: object;
  users: number;
}

const held = new Map<string, Held>();

/**
 * Makes the owner the only writer of the directory. Calls nest: the lock is released when the returned function was
 * called as often as this one.
 *
 * @param owner the model that is trained or saved: a run's own saves use the lock of the run
 * @throws ERR_TORCHBIND_LOCKED if another process, another thread or another owner writes there
 */
export async function lockWriter(directory: string, owner: object): Promise<() => void> {
  const key = await realpath(directory);
  const entry = held.get(key) ?? { lock: take(key), owner, users: 0 };
  if (entry.owner !== owner) throw locked(key, 'another run in this process');
  held.set(key, entry);
  entry.users++;
  let released = false;
  return () => {
    if (released) return;
    released = true;
    if (--entry.users > 0) return;
    held.delete(key);
    entry.lock.release();
  };
}

function take(directory: string): FileLock {
  const lock = FileLock.acquire(path.join(directory, lockFile));
  if (lock instanceof FileLock) return lock;
  throw locked(directory, lock.holder);
}

function locked(directory: string, holder: string): TorchBindError {
  return new TorchBindError(
    `${directory} is being written to by ${holder}. Wait for it, stop it, or save to another directory.`,
    'ERR_TORCHBIND_LOCKED',
  );
}
