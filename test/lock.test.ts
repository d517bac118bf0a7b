/** A lock has one holder, and ends with it, however that ends. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect, onTestFinished, test } from 'vitest';
import { FileLock } from '../lib/lock';
import { resolveAddon } from '../lib/native/loader';
import { repositoryRoot } from './helpers/python';
import { temporaryDirectory } from './helpers/tmp';

const addon = JSON.stringify(resolveAddon());

function lockPath(): string {
  return path.join(temporaryDirectory(), 'lock');
}

function take(file: string): FileLock {
  const lock = FileLock.acquire(file);
  if (lock instanceof FileLock) return lock;
  throw new Error(`held by ${lock.holder}`);
}

/** A process that holds the lock until it is killed, and prints what `afterwards` gives. */
async function startHolder(file: string, afterwards = "'locked'"): Promise<{ process: ChildProcess; said: string }> {
  const code = `require(${addon}).lockFile(${JSON.stringify(file)}); process.stdout.write(String(${afterwards})); setInterval(() => {}, 1e6)`;
  const holder = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => void holder.kill('SIGKILL'));
  const [text] = (await once(holder.stdout, 'data')) as [Buffer];
  expect(FileLock.acquire(file)).not.toBeInstanceOf(FileLock);
  return { process: holder, said: text.toString() };
}

/** Waits for the lock without a turn of the event loop: nothing that this process is told meanwhile counts. */
function takeInOneTurn(file: string): FileLock {
  const clock = new Int32Array(new SharedArrayBuffer(4));
  for (let tries = 0; tries < 3000; tries++) {
    const lock = FileLock.acquire(file);
    if (lock instanceof FileLock) return lock;
    Atomics.wait(clock, 0, 0, 10);
  }
  throw new Error('the lock is not free');
}

test('a lock has one holder, who is named, and is free after its release', () => {
  const file = lockPath();
  const lock = take(file);
  expect(FileLock.acquire(file)).toMatchObject({
    holder: expect.stringContaining(`process ${process.pid} on `) as string,
  });
  lock.release();
  expect(readFileSync(file, 'utf8')).toBe('');
  const next = take(file);
  lock.release(); // again, which is not the next one's
  expect(FileLock.acquire(file)).not.toBeInstanceOf(FileLock);
  next.release();
});

test.runIf(process.platform === 'linux')(
  'the lock of a process that was killed and not yet reaped is free',
  async () => {
    const file = lockPath();
    const { process: holder } = await startHolder(file);
    holder.kill('SIGKILL');
    const lock = takeInOneTurn(file);
    // Only a turn of the event loop reaps it.
    expect(readFileSync(`/proc/${holder.pid}/stat`, 'utf8')).toMatch(/\) Z /);
    lock.release();
  },
);

test('a child of the holder does not keep its lock', async () => {
  const file = lockPath();
  const start = `require('node:child_process').spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)'], { detached: true, stdio: 'ignore' }).pid`;
  const { process: holder, said } = await startHolder(file, start);
  onTestFinished(() => void process.kill(Number(said), 'SIGKILL'));
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  take(file).release();
});

test('the lock of a worker excludes this thread, and is free when the worker was terminated', async () => {
  const file = lockPath();
  const code = `const { parentPort } = require('node:worker_threads');
    require(${addon}).lockFile(${JSON.stringify(file)}); parentPort.postMessage('locked'); for (;;);`;
  const worker = new Worker(code, { eval: true, trackUnmanagedFds: false });
  await once(worker, 'message');
  expect(FileLock.acquire(file)).not.toBeInstanceOf(FileLock);
  await worker.terminate();
  take(file).release();
});

test('what a file holds decides nothing and is not shown', () => {
  const file = lockPath();
  // As torchbind wrote it before locks were the system's.
  writeFileSync(file, JSON.stringify({ pid: process.ppid, host: 'elsewhere', since: 'now', id: 'x', started: null }));
  const lock = take(file);
  writeFileSync(file, 'process 1 on \u001b[31mred since 2026');
  expect(FileLock.acquire(file)).toEqual({ holder: 'another process' });
  lock.release();
});

test('a file that cannot be opened is an error of the system', () => {
  const file = path.join(temporaryDirectory(), 'nowhere/lock');
  expect(() => FileLock.acquire(file)).toThrow(`ENOENT: No such file or directory, open '${file}'`);
  expect(existsSync(path.dirname(file))).toBe(false);
});

test.runIf(process.platform === 'linux')('a file system without locks is named, with the way around', () => {
  const directory = temporaryDirectory();
  const library = path.join(directory, 'no-locks.so');
  execFileSync('cc', ['-shared', '-fPIC', '-o', library, path.join(__dirname, 'fixtures/no-locks.c')]);
  const code = `const { FileLock } = require(${JSON.stringify(path.join(repositoryRoot, 'dist/lock.js'))});
    try { FileLock.acquire('lock').release(); console.log('went on'); } catch (e) { console.log(e.code, e.message) }`;
  const run = (more: NodeJS.ProcessEnv): string =>
    spawnSync(process.execPath, ['-e', code], {
      cwd: directory,
      env: { ...process.env, LD_PRELOAD: library, ...more },
      encoding: 'utf8',
    }).stdout;
  expect(run({})).toMatch(
    /^ERR_TORCHBIND_FILE lock cannot be locked \(No locks available\).*does not support locks.*TORCHBIND_BYPASS_LOCKS=1/,
  );
  expect(run({ TORCHBIND_BYPASS_LOCKS: '1' })).toBe('went on\n');
});
