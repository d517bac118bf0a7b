/** A file that one process holds at a time, of all processes on all machines that see it. */
import { randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { type FileHandle, link, open, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { threadId } from 'node:worker_threads';

/** Who holds a lock, as its file says. */
export interface LockHolder {
  pid: number;
  host: string;
  /** When it was taken, ISO 8601. */
  since: string;
}

interface LockRecord extends LockHolder {
  /** Differs for every lock that was ever taken. */
  id: string;
  /** Differs after a restart of the machine; null where that cannot be told. */
  boot: string | null;
  /** Process ids mean something only within one of these (containers have their own). */
  pidNamespace: string | null;
  /** Of the thread in the process. */
  thread: number;
  /** When the process started, in the kernel's ticks: tells it from a later one with the same id. */
  started: string | null;
}

const TOUCH_MS = 5_000;
/** A holder that cannot be asked and has not touched its lock for this long is taken for dead: long steps block timers. */
const UNTOUCHED_STALE_MS = 600_000;
/** Where there are no links, a lock file without a record is one that is being written, or whose writer died doing so. */
const EMPTY_STALE_MS = 10_000;

/** Locks that this thread holds. */
const live = new Set<string>();

export class FileLock {
  private readonly timer: NodeJS.Timeout;

  private constructor(
    private readonly file: string,
    private readonly id: string,
  ) {
    live.add(id);
    this.timer = setInterval(() => void utimes(file, new Date(), new Date()).catch(() => undefined), TOUCH_MS);
    this.timer.unref();
  }

  /** Takes the lock, or says who holds it. A lock whose holder is gone is taken over. */
  static async acquire(file: string): Promise<FileLock | LockHolder> {
    for (;;) {
      const record = ownRecord();
      if (await create(file, record)) return new FileLock(file, record.id);
      const holder = await holderOf(file);
      if (holder === 'abandoned') await removeAbandoned(file);
      else if (holder !== 'gone') return holder;
    }
  }

  async release(): Promise<void> {
    clearInterval(this.timer);
    live.delete(this.id);
    const record = await readRecord(this.file);
    if (typeof record === 'object' && record.id !== this.id) return;
    await rm(this.file, { force: true });
  }
}

/**
 * Makes the lock's file, whole from its first moment: it is written under another name, and linked. Whoever dies on the way
 * leaves that other file, which the next holder removes.
 */
async function create(file: string, record: LockRecord): Promise<boolean> {
  const draft = `${file}.${record.id}`;
  await writeFile(draft, JSON.stringify(record));
  try {
    await link(draft, file);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (hasNoLinks.includes(code)) return await createInPlace(file, record);
    // A draft that is gone was removed by one who holds the lock.
    if (code === 'EEXIST' || code === 'ENOENT') return false;
    throw error;
  } finally {
    await rm(draft, { force: true });
  }
  await removeDrafts(file);
  return true;
}

/** What file systems without hard links say. */
const hasNoLinks = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'];

async function createInPlace(file: string, record: LockRecord): Promise<boolean> {
  const handle = await openNew(file);
  if (handle === undefined) return false;
  try {
    await handle.writeFile(JSON.stringify(record));
  } catch (error) {
    await rm(file, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
  return true;
}

async function removeDrafts(file: string): Promise<void> {
  const directory = path.dirname(file);
  const prefix = `${path.basename(file)}.`;
  const names = await readdir(directory).catch(() => []);
  const drafts = names.filter((name) => name.startsWith(prefix) && /^[0-9a-f]{24}$/.test(name.slice(prefix.length)));
  await Promise.all(drafts.map((name) => rm(path.join(directory, name), { force: true })));
}

/** A new file, or undefined where there is one already. */
async function openNew(file: string): Promise<FileHandle | undefined> {
  return open(file, 'wx').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EEXIST') return undefined;
    throw error;
  });
}

function ownRecord(): LockRecord {
  return {
    pid: process.pid,
    host: hostname(),
    since: new Date().toISOString(),
    id: randomBytes(12).toString('hex'),
    boot: bootId(),
    pidNamespace: pidNamespace(),
    thread: threadId,
    started: startOf(process.pid),
  };
}

async function readRecord(file: string): Promise<LockRecord | 'gone' | 'unreadable'> {
  try {
    const record = JSON.parse(await readFile(file, 'utf8')) as LockRecord;
    return Number.isSafeInteger(record.pid) && typeof record.id === 'string' ? record : 'unreadable';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'gone' : 'unreadable';
  }
}

async function holderOf(file: string): Promise<LockHolder | 'abandoned' | 'gone'> {
  const record = await readRecord(file);
  if (record === 'gone') return record;
  if (record !== 'unreadable') return (await isAbandoned(file, record)) ? 'abandoned' : record;
  return (await ageOf(file)) > EMPTY_STALE_MS ? 'abandoned' : { pid: 0, host: 'unknown', since: 'just now' };
}

async function isAbandoned(file: string, holder: LockRecord): Promise<boolean> {
  const isHere = holder.host === hostname();
  if (isHere && holder.boot !== bootId()) return true;
  const isOwn = isHere && holder.pid === process.pid && holder.started === startOf(process.pid);
  // One of this thread that is not held could not be removed when it was released.
  if (isOwn && holder.thread === threadId) return !live.has(holder.id);
  // Another thread of this process may have been terminated.
  const canAsk = isHere && holder.pidNamespace === pidNamespace() && !isOwn;
  if (!canAsk) return (await ageOf(file)) > UNTOUCHED_STALE_MS;
  return !isRunning(holder.pid) || holder.started !== startOf(holder.pid);
}

async function ageOf(file: string): Promise<number> {
  const info = await stat(file).catch(() => undefined);
  return info === undefined ? 0 : Date.now() - info.mtimeMs;
}

/** Of several that find a lock abandoned one removes it, having looked again while the others could not. */
async function removeAbandoned(file: string): Promise<void> {
  const guard = `${file}.takeover`;
  const handle = await openNew(guard);
  if (handle === undefined) {
    if ((await ageOf(guard)) > EMPTY_STALE_MS) await rm(guard, { force: true });
    await sleep(10);
    return;
  }
  try {
    if ((await holderOf(file)) === 'abandoned') await rm(file, { force: true });
  } finally {
    await handle.close();
    await rm(guard, { force: true });
  }
}

export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function bootId(): string | null {
  return orNull(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim());
}

function pidNamespace(): string | null {
  return orNull(() => readlinkSync('/proc/self/ns/pid'));
}

/** Field 22 of /proc/<pid>/stat; the program's name before it may hold spaces. */
function startOf(pid: number): string | null {
  return orNull(
    () =>
      readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /s, '')
        .split(' ')[19] ?? null,
  );
}

function orNull(read: () => string | null): string | null {
  try {
    return read();
  } catch {
    return null; // only Linux has /proc
  }
}
