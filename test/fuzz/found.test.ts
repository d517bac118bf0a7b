import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { repositoryRoot } from '../helpers/python';

interface Run {
  lines: string[];
  signal: string | null;
}

function run(file: string): Run {
  const child = spawnSync(process.execPath, ['--expose-gc', path.join(__dirname, file)], {
    encoding: 'utf8',
    timeout: 170_000,
  });
  return { lines: child.stdout.trim().split('\n'), signal: child.signal };
}

let single: Run;

beforeAll(() => {
  single = run('found.cjs');
});

test('what the fuzzer of sequences found stays mended', () => {
  const { lines, signal } = run('found-sequences.cjs');
  expect(signal, `ended in: ${lines.at(-1)}`).toBeNull();
  expect(lines.length).toBeGreaterThan(10);
  expect(lines.filter((line) => !line.endsWith(': as expected'))).toEqual([]);
});

test('what the fuzzer found stays mended', () => {
  const { lines, signal } = single;
  const calls = lines.filter((line) => !line.startsWith('refused '));
  expect(signal, `ended in: ${calls.at(-1)}`).toBeNull();
  expect(calls.length).toBeGreaterThan(50);
  expect(calls.filter((line) => !line.endsWith(': as expected'))).toEqual([]);
});

test('every operator that is refused as unsafe is one that libtorch has', () => {
  const source = readFileSync(path.join(repositoryRoot, 'native/unsafe_operators.cc'), 'utf8');
  const groups = source.slice(source.indexOf('groups()'), source.indexOf('unsafe_table()'));
  const listed = [...groups.matchAll(/"(\w+::\w+)"/g)].map((match) => match[1]!);
  const refused = new Set(single.lines.filter((line) => line.startsWith('refused ')).map((line) => line.slice(8)));
  expect([...refused].sort()).toEqual([...new Set(listed)].sort());
  expect(listed.length).toBe(refused.size);
});
