/** A lock file has one holder, tells who it is, and is taken over when that one is gone. */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { FileLock, type LockHolder } from '../lib/lock';
import { temporaryDirectory } from './helpers/tmp';

async function take(file: string): Promise<FileLock> {
  const lock = await FileLock.acquire(file);
  if (lock instanceof FileLock) return lock;
  throw new Error(`held by ${lock.pid}`);
}

/** The lock file as another holder would have written it. */
function writeRecord(file: string, change: object): void {
  writeFileSync(
    file,
    JSON.stringify({ ...(JSON.parse(readFileSync(file, 'utf8')) as object), id: 'other', ...change }),
  );
}

test('a lock has one holder, and is free and gone after its release', async () => {
  const file = path.join(temporaryDirectory(), 'lock');
  const lock = await take(file);
  const holder = (await FileLock.acquire(file)) as LockHolder;
  expect(lock).toBeInstanceOf(FileLock);
  expect([holder.pid, holder.host]).toEqual([process.pid, hostname()]);
  expect(Math.abs(Date.now() - Date.parse(holder.since))).toBeLessThan(60_000);
  await lock.release();
  expect(existsSync(file)).toBe(false);
  await (await take(file)).release();
});

test('the lock of a process that is gone is taken over, by one of those that wait', async () => {
  const directory = temporaryDirectory();
  const file = path.join(directory, 'lock');
  const child = spawn(process.execPath, ['-e', '']);
  await new Promise((resolve) => child.once('exit', resolve));
  await take(file);
  writeRecord(file, { pid: child.pid, thread: 0 });
  const results = await Promise.all(Array.from({ length: 8 }, () => FileLock.acquire(file)));
  expect(results.filter((result) => result instanceof FileLock)).toHaveLength(1);
  expect(readdirSync(directory)).toEqual(['lock']);
});

test.runIf(process.platform === 'linux')('a later process with the same id does not keep it', async () => {
  const file = path.join(temporaryDirectory(), 'lock');
  await take(file);
  writeRecord(file, { pid: process.ppid, started: '1' });
  await (await take(file)).release();
});

test('the lock of another machine stands until it was not touched for ten minutes', async () => {
  const file = path.join(temporaryDirectory(), 'lock');
  await take(file);
  writeRecord(file, { host: 'elsewhere' });
  expect(await FileLock.acquire(file)).toMatchObject({ host: 'elsewhere' });
  const longAgo = Date.now() / 1000 - 601;
  utimesSync(file, longAgo, longAgo);
  await (await take(file)).release();
});

test('what a process that was killed taking the lock left neither blocks it nor stays', async () => {
  const directory = temporaryDirectory();
  const file = path.join(directory, 'lock');
  writeFileSync(`${file}.0123456789abcdef01234567`, '{"pid":');
  const lock = await take(file);
  expect(readdirSync(directory)).toEqual(['lock']);
  await lock.release();
});

test('a file that says nothing stands while it may still be written', async () => {
  const file = path.join(temporaryDirectory(), 'lock');
  writeFileSync(file, '');
  expect(await FileLock.acquire(file)).not.toBeInstanceOf(FileLock);
  const before = Date.now() / 1000 - 11;
  utimesSync(file, before, before);
  await (await take(file)).release();
});

test('a lock that could not be removed when it was released is free', async () => {
  const file = path.join(temporaryDirectory(), 'lock');
  const lock = await take(file);
  const content = readFileSync(file);
  await lock.release();
  writeFileSync(file, content);
  await (await take(file)).release();
});

test('a holder that was robbed leaves the new one alone', async () => {
  const file = path.join(temporaryDirectory(), 'lock');
  const lock = await take(file);
  writeRecord(file, {});
  await lock.release();
  expect(existsSync(file)).toBe(true);
});
