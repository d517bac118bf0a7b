/**
 * The code of the documents runs as it is printed: every block of JavaScript, TypeScript and Python, in order, each a program
 * of its own, in a copy of examples/. Where a line that prints is followed by a comment, that comment is what it must print.
 */
import { execFile } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { ModuleKind, ScriptTarget, transpileModule } from 'typescript';
import { beforeAll, describe, expect, test } from 'vitest';
import { pythonCode, pythonTimeout, repositoryRoot } from './helpers/python';
import { sharedTemporaryDirectory } from './helpers/tmp';

interface Block {
  language: 'js' | 'ts' | 'python';
  code: string;
  line: number;
  /** The comments after lines that print, in order; undefined if there is none. */
  expected: (string | undefined)[];
}

const run = promisify(execFile);
const directory = path.join(sharedTemporaryDirectory(), 'examples');
const documents = ['README.md', ...readdirSync(path.join(repositoryRoot, 'docs')).map((name) => `docs/${name}`)]
  .filter((name) => name.endsWith('.md'))
  .map((name) => ({ name, blocks: blocksOf(readFileSync(path.join(repositoryRoot, name), 'utf8')) }))
  .filter(({ blocks }) => blocks.length > 0);

function blocksOf(markdown: string): Block[] {
  return [...markdown.matchAll(/^```(js|ts|python)\n(.*?)^```$/gms)].map((match) => ({
    language: match[1] as Block['language'],
    code: match[2]!,
    line: markdown.slice(0, match.index).split('\n').length + 1,
    expected: [...match[2]!.matchAll(/^ *(?:console\.log|print)\(.*\);?(?: *(?:\/\/|#) (.*))?$/gm)].map(
      (log) => log[1],
    ),
  }));
}

function compiled(code: string): string {
  const compilerOptions = { module: ModuleKind.ESNext, target: ScriptTarget.ES2022 };
  return transpileModule(code, { compilerOptions }).outputText;
}

async function output({ language, code, line }: Block, document: string): Promise<string> {
  if (language === 'python') {
    // The program that the documents speak of, at a path that stays: Python keeps its bytecode by path.
    const program = JSON.stringify(path.join(repositoryRoot, 'examples/pytorch'));
    return pythonCode(`import sys; sys.path.insert(0, ${program})\n${code}`, [], { cwd: directory });
  }
  const file = path.join(directory, `${path.basename(document)}-line-${line}.mjs`);
  writeFileSync(file, language === 'ts' ? compiled(code) : code);
  return (await run(process.execPath, [file], { cwd: directory })).stdout;
}

beforeAll(() => {
  cpSync(path.join(repositoryRoot, 'examples'), directory, { recursive: true });
  const bin = path.join(directory, 'node_modules/.bin');
  mkdirSync(bin, { recursive: true });
  symlinkSync(repositoryRoot, path.join(directory, 'node_modules/torchbind'), 'junction');
  symlinkSync('../torchbind/dist/cli/main.js', path.join(bin, 'torchbind'));
  chmodSync(path.join(repositoryRoot, 'dist/cli/main.js'), 0o755);
});

test('there are documents with code', () => {
  expect(documents.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['README.md', 'docs/autograd.md', 'docs/tensors.md']),
  );
  expect(documents[0]!.blocks.length).toBeGreaterThan(5);
});

test.each([
  ['README.md', 1], // after the block that sets up a clone, which the tests' own set-up has done
  ['docs/commands.md', 0],
])('the commands of %s do what they say', { timeout: 300_000 }, async (document, from) => {
  const markdown = readFileSync(path.join(repositoryRoot, document), 'utf8');
  const blocks = [...markdown.matchAll(/^```sh\n(.*?)^```$/gms)].map((match) => match[1]!).slice(from);
  expect(blocks.length).toBeGreaterThan(0);
  const bin = path.join(directory, 'node_modules/.bin');
  const env = { ...process.env, PATH: `${bin}${path.delimiter}${process.env.PATH}`, OMP_NUM_THREADS: '1' };
  await run('bash', ['-euc', blocks.join('')], { cwd: directory, env });
});

describe.each(documents)('$name', ({ name, blocks }) => {
  test.each(blocks.map((block) => [block.line, block] as const))(
    'the code at line %i runs and prints what its comments say',
    async (_line, block) => {
      const printed = (await output(block, name)).trimEnd().split('\n');
      if (block.expected.every((comment) => comment === undefined)) return;
      block.expected.forEach((comment, i) => {
        if (comment !== undefined) expect(printed[i]).toBe(comment);
      });
    },
    pythonTimeout,
  );
});
