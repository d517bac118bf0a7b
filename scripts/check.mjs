// The checks that need no test runner: types, lint, format, generated code. Each is one entry of the count that npm test closes with.
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { inRoot, main, runVisibly, say } from './steps.mjs';
import { pythonTool } from './tools.mjs';
import { pathToFileURL } from 'node:url';

const CLANG_FORMAT = 'clang-format==21.1.8';
const bin = (file) => inRoot('node_modules', file);
const cxxFiles = () =>
  readdirSync(inRoot('native'), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(cc|h)$/.test(name))
    .map((name) => inRoot('native', name));

const checks = [
  ['types', () => runVisibly(process.execPath, [bin('typescript/bin/tsc'), '--noEmit', '-p', inRoot('tsconfig.json')])],
  ['lint', () => runVisibly(process.execPath, [bin('eslint/bin/eslint.js'), '--max-warnings=0', '.'])],
  [
    'format',
    () => runVisibly(process.execPath, [bin('prettier/bin/prettier.cjs'), '--log-level=warn', '--check', '.']),
  ],
  [
    'imports',
    () =>
      runVisibly(process.execPath, [
        bin('dependency-cruiser/bin/dependency-cruise.mjs'),
        '--config',
        inRoot('.dependency-cruiser.cjs'),
        'lib',
      ]),
  ],
  ['generated operators', () => runVisibly(process.execPath, [inRoot('scripts/generate-operators.mjs'), '--check'])],
  ['C++ format', async () => runVisibly(await clangFormat(), ['--dry-run', '--Werror', ...cxxFiles()])],
];

/** Runs every check, two at a time, and returns how many passed and how many failed. Each of them uses one core. */
export async function check() {
  const counts = { passed: 0, failed: 0 };
  const waiting = [...checks];
  const lane = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [name, run] = next;
      say(`checking ${name}`);
      const status = await run();
      if (status === 0) counts.passed++;
      else {
        counts.failed++;
        say(`failed: ${name}`); // the output of two checks may be mixed
      }
    }
  };
  await Promise.all([lane(), lane()]);
  return counts;
}

export async function format() {
  const prettier = await runVisibly(process.execPath, [
    bin('prettier/bin/prettier.cjs'),
    '--log-level=warn',
    '--write',
    '.',
  ]);
  return prettier || runVisibly(await clangFormat(), ['-i', ...cxxFiles()]);
}

/** A pinned clang-format in the user's cache: other versions lay the same code out differently. */
async function clangFormat() {
  const program = process.platform === 'win32' ? 'clang-format.exe' : 'clang-format';
  // In bin/ is a script of Python's, which needs its package on the path.
  return path.join(await pythonTool(CLANG_FORMAT, program), '../../clang_format/data/bin', program);
}

if (process.argv[1] && import.meta.url === pathToFileURL(path.resolve(process.argv[1])).href) {
  main(async (args) => (args.includes('--fix') ? format() : (await check()).failed));
}
