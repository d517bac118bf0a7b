#!/usr/bin/env node
// npm run test:fast: the tests that start no Python process and no other slow program. Arguments go to vitest
// (npm run test:fast -- --watch). It runs on what npm run setup built.
import { readdirSync, readFileSync } from 'node:fs';
import { inRoot, main, runVisibly, SetupError } from './steps.mjs';

/** Folders of unit tests. The others train, attack, kill processes, install, or check the package. */
const FOLDERS = ['nn', 'tensor', 'formats', 'data', 'pickle', 'optim', 'tokenizers', 'models'];
/** Longer than all the rest of their folder: they compile a library, or read large files. */
const SLOW =
  /tensor\/(library|off-loop|surplus)|models\/(batching|context-shift|kv-cache)|hostile-legacy|formats\/deep/;

main((args) => {
  const watch = args.includes('--watch');
  const rest = args.filter((arg) => arg !== '--watch');
  const files = fastTests();
  if (files.length === 0) throw new SetupError('found no tests without Python under test/');
  return runVisibly(process.execPath, [
    inRoot('node_modules/vitest/vitest.mjs'),
    watch ? 'watch' : 'run',
    ...files,
    ...rest,
  ]);
});

function fastTests() {
  const files = FOLDERS.flatMap((folder) =>
    readdirSync(inRoot('test', folder)).map((name) => `test/${folder}/${name}`),
  );
  return files.filter(
    (file) =>
      file.endsWith('.test.ts') && !SLOW.test(file) && !readFileSync(inRoot(file), 'utf8').includes('helpers/python'),
  );
}
