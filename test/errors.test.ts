import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { checkOptions, closest } from '../lib/errors';
import { repositoryRoot } from './helpers/python';

function sources(directory: string, pattern: RegExp): string {
  return readdirSync(path.join(repositoryRoot, directory), { recursive: true, encoding: 'utf8' })
    .filter((name) => pattern.test(name))
    .map((name) => readFileSync(path.join(repositoryRoot, directory, name), 'utf8'))
    .join('\n');
}

test('docs/errors.md lists exactly the codes that are thrown', () => {
  const text = sources('lib', /\.ts$/) + sources('native', /\.(cc|h)$/);
  const thrown = new Set([...text.matchAll(/['"]ERR_TORCHBIND_([A-Z_]+)['"]/g)].map((match) => match[1]!));
  const table = readFileSync(path.join(repositoryRoot, 'docs/errors.md'), 'utf8').split('\n').slice(8).join('\n');
  const listed = new Set(
    [...table.matchAll(/^\| (`[^|]*) \|/gm)].flatMap((row) =>
      [...row[1]!.matchAll(/`([A-Z_]+)`/g)].map((code) => code[1]!),
    ),
  );
  expect([...listed].sort()).toEqual([...thrown].sort());
});

test('a misspelled option names the one that was meant', () => {
  expect(() => checkOptions({ maxStep: 1 }, ['maxSteps', 'seed'], 'fit()')).toThrow(
    "fit(): unknown option 'maxStep'. Did you mean 'maxSteps'?",
  );
  expect(() => checkOptions({ zzz: 1 }, ['maxSteps', 'seed'], 'fit()')).toThrow('Known options: maxSteps, seed.');
  expect(() => checkOptions([] as object, [], 'fit()')).toThrow('options must be an object');
  expect(closest('sofmax', ['softmax', 'softmin'])).toBe('softmax');
});
