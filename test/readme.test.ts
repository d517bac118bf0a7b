/**
 * The code of the documents runs as it is printed: every ```js block, in order, each a program of its own, in a copy of
 * examples/. Where a console.log is followed by a comment, that comment is what it must print.
 */
import { execFile } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { repositoryRoot } from './helpers/python';
import { sharedTemporaryDirectory } from './helpers/tmp';

interface Block {
  code: string;
  line: number;
  /** The comments after console.log lines, in order; undefined where there is none. */
  expected: (string | undefined)[];
}

const run = promisify(execFile);
const directory = path.join(sharedTemporaryDirectory(), 'examples');
const documents = ['README.md', ...readdirSync(path.join(repositoryRoot, 'docs')).map((name) => `docs/${name}`)]
  .filter((name) => name.endsWith('.md'))
  .map((name) => ({ name, blocks: blocksOf(readFileSync(path.join(repositoryRoot, name), 'utf8')) }))
  .filter(({ blocks }) => blocks.length > 0);

function blocksOf(markdown: string): Block[] {
  return [...markdown.matchAll(/^```js\n(.*?)^```$/gms)].map((match) => ({
    code: match[1]!,
    line: markdown.slice(0, match.index).split('\n').length + 1,
    expected: [...match[1]!.matchAll(/^ *console\.log\(.*\);?(?: *\/\/ (.*))?$/gm)].map((log) => log[1]),
  }));
}

beforeAll(() => {
  cpSync(path.join(repositoryRoot, 'examples'), directory, { recursive: true });
  mkdirSync(path.join(directory, 'node_modules'));
  symlinkSync(repositoryRoot, path.join(directory, 'node_modules/torchbind'), 'junction');
});

test('there are documents with code', () => {
  expect(documents.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['README.md', 'docs/autograd.md', 'docs/tensors.md']),
  );
  expect(documents[0]!.blocks.length).toBeGreaterThan(5);
});

test('the commands of docs/commands.md do what they say', { timeout: 300_000 }, async () => {
  const markdown = readFileSync(path.join(repositoryRoot, 'docs/commands.md'), 'utf8');
  const blocks = [...markdown.matchAll(/^```sh\n(.*?)^```$/gms)].map((match) => match[1]!);
  expect(blocks.length).toBeGreaterThan(4);
  const bin = path.join(directory, 'bin');
  mkdirSync(bin);
  symlinkSync(path.join(repositoryRoot, 'dist/cli/main.js'), path.join(bin, 'torchbind'));
  chmodSync(path.join(repositoryRoot, 'dist/cli/main.js'), 0o755);
  const env = { ...process.env, PATH: `${bin}${path.delimiter}${process.env.PATH}`, OMP_NUM_THREADS: '1' };
  await run('bash', ['-euc', blocks.join('')], { cwd: directory, env });
});

describe.each(documents)('$name', ({ name, blocks }) => {
  test.each(blocks.map((block) => [block.line, block] as const))(
    'the code at line %i runs and prints what its comments say',
    async (line, { code, expected }) => {
      const file = path.join(directory, `${path.basename(name)}-line-${line}.mjs`);
      writeFileSync(file, code);
      const { stdout } = await run(process.execPath, [file], { cwd: directory });
      if (expected.every((comment) => comment === undefined)) return;
      const printed = stdout.trimEnd().split('\n');
      expected.forEach((comment, i) => {
        if (comment !== undefined) expect(printed[i]).toBe(comment);
      });
    },
    120_000,
  );
});
