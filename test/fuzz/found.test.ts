import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { repositoryRoot } from '../helpers/python';

let lines: string[] = [];
let signal: string | null = null;

beforeAll(() => {
  const child = spawnSync(process.execPath, [path.join(__dirname, 'found.cjs')], {
    encoding: 'utf8',
    timeout: 170_000,
  });
  lines = child.stdout.trim().split('\n');
  signal = child.signal;
});

test('what the fuzzer found stays mended', () => {
  const calls = lines.filter((line) => !line.startsWith('refused '));
  expect(signal, `ended in: ${calls.at(-1)}`).toBeNull();
  expect(calls.length).toBeGreaterThan(50);
  expect(calls.filter((line) => !line.endsWith(': as expected'))).toEqual([]);
});

test('every operator that is refused as unsafe is one that libtorch has', () => {
  const source = readFileSync(path.join(repositoryRoot, 'native/unsafe_operators.cc'), 'utf8');
  const groups = source.slice(source.indexOf('groups()'), source.indexOf('unsafe_table()'));
  const listed = [...groups.matchAll(/"(\w+::\w+)"/g)].map((match) => match[1]!);
  const refused = new Set(lines.filter((line) => line.startsWith('refused ')).map((line) => line.slice(8)));
  expect([...refused].sort()).toEqual([...new Set(listed)].sort());
  expect(listed.length).toBe(refused.size);
});
