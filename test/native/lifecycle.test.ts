import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { repositoryRoot } from '../helpers/python';

/** Runs a file of test/native/children with the built package, as a user's program runs. */
function run(
  child: string,
  flags: string[] = [],
  args: string[] = [],
): { status: number | null; signal: string | null; stdout: string; stderr: string } {
  const file = path.join(__dirname, 'children', child);
  const result = spawnSync(process.execPath, [...flags, file, ...args], {
    cwd: repositoryRoot,
    encoding: 'utf8',
    timeout: 300_000,
  });
  return { status: result.status, signal: result.signal, stdout: result.stdout, stderr: result.stderr };
}

const slow = 300_000;

test(
  'a synchronous loop that never yields stays small: the garbage collector frees tensors outside scopes',
  { timeout: slow },
  () => {
    const result = run('sync-loop.cjs');
    expect(result.stderr).toBe('');
    const { peakMegabytes, tensors } = JSON.parse(result.stdout) as { peakMegabytes: number; tensors: number };
    expect(tensors).toBeLessThan(1000);
    expect(peakMegabytes).toBeLessThan(300);
  },
);

test('small tensors that share tokens are collected too', { timeout: slow }, () => {
  const result = run('small-tensors.cjs', ['--expose-gc']);
  expect(result.stderr).toBe('');
  const { before, during, after } = JSON.parse(result.stdout) as { before: number; during: number; after: number };
  expect(during).toBeGreaterThan(before);
  expect(after).toBe(before);
});

test.each([[[]], [['--expose-gc']]])('scopes free what is theirs, with flags %j', { timeout: slow }, (flags) => {
  const result = run('scopes.cjs', flags);
  expect(result.stderr).toBe('');
  expect(JSON.parse(result.stdout)).toEqual({ sync: 0, thrown: 0, async: 0, rejected: 0, generator: 0, abandoned: 0 });
});

test(
  'small storages keep what is theirs, made in one thread and freed in another, however many',
  { timeout: slow },
  () => {
    const result = run('small-blocks.cjs');
    expect(result.stderr).toBe('');
    expect(JSON.parse(result.stdout)).toEqual({ errors: 0, left: 0 });
  },
);

test('several workers compute at once, each with its own tensors', { timeout: slow }, () => {
  const result = run('workers.cjs');
  expect(result.stderr).toBe('');
  expect(JSON.parse(result.stdout)).toEqual([45, 45, 45, 45, 45, 45, 45, 45]);
  expect(result.status).toBe(0);
});

test('workers may be terminated at any moment, in native code and with files being read', { timeout: slow }, () => {
  const result = run('terminate.cjs');
  expect(result.stderr).toBe('');
  expect(result.signal).toBeNull();
  expect(result.stdout.trim()).toBe('terminated 14');
});

test('tensors go between threads without a copy, and what is lost on the way is freed', { timeout: slow }, () => {
  const result = run('tickets.cjs');
  expect(result.stderr).toBe('');
  expect(JSON.parse(result.stdout)).toEqual({
    results: [1000, 1001, 1002, 1003],
    write: { values: [5, 5, 5], left: 0 },
    echo: true,
    lost: { received: [1000], wereLost: true, left: 0 },
  });
  expect(result.status).toBe(0);
});

describe('every way to exit is clean', () => {
  test.each([
    ['end', 0],
    ['exit', 3],
    ['throw', 1],
    ['pending-read', 0],
    ['exit-pending', 0],
    ['in-scope', 0],
    ['from-worker', 0],
    ['kept-graph', 0],
    ['rejection', 1],
    ['pending-write', 0],
    ['pending-values', 0],
    ['exit-pending-values', 0],
    ['exit-handler', 0],
    ['busy-worker', 0],
  ])('%s', { timeout: slow }, (how, status) => {
    const result = run('exit.cjs', [], [how]);
    expect(result.signal).toBeNull();
    expect(result.status).toBe(status);
    if (status !== 1) expect(result.stderr).toBe('');
  });
});
