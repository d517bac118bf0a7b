/** A file that one holder locks at a time: a process, a worker or a part of one. The lock ends with its holder. */
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { TorchBindError } from './errors';
import { loader } from './native/loader';

export class FileLock {
  private constructor(
    private readonly file: string,
    /** Of the native lock; null on a file system without locks, where TORCHBIND_BYPASS_LOCKS allows that. */
    private readonly native: number | null,
  ) {}

  /**
   * Takes the lock, or says who holds it. The file stays when the lock is released: whoever removed it could remove the one
   * that the next holder has locked already.
   *
   * @throws ERR_TORCHBIND_FILE on a file system without locks; a system error where the file cannot be opened
   */
  static acquire(file: string): FileLock | { holder: string } {
    const native = lockFile(file);
    if (native === 'held') return { holder: readNote(file) };
    writeNote(file, `process ${process.pid} on ${hostname()} since ${new Date().toISOString()}`);
    return new FileLock(file, native);
  }

  release(): void {
    if (this.native === null) return;
    writeNote(this.file, '');
    loader().unlockFile(this.native);
  }
}

function lockFile(file: string): number | 'held' | null {
  try {
    return loader().lockFile(file) ?? 'held';
  } catch (error) {
    const { errno, syscall, message } = error as NodeJS.ErrnoException;
    if (errno === undefined) throw error;
    if (syscall === 'open') {
      const code = process.platform === 'win32' ? 'EIO' : getSystemErrorName(-errno);
      throw Object.assign(new Error(`${code}: ${message}, open '${file}'`, { cause: error }), { code, syscall });
    }
    if (process.env.TORCHBIND_BYPASS_LOCKS === '1') return null;
    throw new TorchBindError(
      `${file} cannot be locked (${message}): its file system does not support locks. Use a directory on another file system, ` +
        'or set TORCHBIND_BYPASS_LOCKS=1 to go without a lock if no other program writes to this directory.',
      'ERR_TORCHBIND_FILE',
      { cause: error },
    );
  }
}

/** For the message to others only: who holds the lock is known to the system alone. */
function writeNote(file: string, text: string): void {
  try {
    if (text === '') truncateSync(file);
    else writeFileSync(file, text);
  } catch {
    // Then the message names nobody.
  }
}

function readNote(file: string): string {
  try {
    // Whatever else is there is not shown.
    return /^process \d+ on [\w.-]{1,255} since [\d:.TZ-]+$/.exec(readFileSync(file, 'utf8'))?.[0] ?? 'another process';
  } catch {
    return 'another process';
  }
}
