#!/usr/bin/env node
// npm test: set-up, checks, tests, and a closing line with the counts. Arguments go to vitest (npm test -- test/nn) and
// then only these tests run.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { check } from './check.mjs';
import { setup } from './setup.mjs';
import { inRoot, main, runVisibly, say } from './steps.mjs';

main(async (args) => {
  await setup({ python: true });
  const checks = args.length === 0 ? await check() : { passed: 0, failed: 0 };
  say('running the tests');
  const tests = await runTests(args);
  const passed = checks.passed + tests.passed;
  const failed = checks.failed + tests.failed;
  const skipped = tests.skipped > 0 ? `, ${tests.skipped} skipped` : '';
  process.stdout.write(`${passed} passed, ${failed} failed${skipped}\n`);
  return failed > 0 || tests.passed === 0 ? 1 : 0;
});

async function runTests(args) {
  const directory = mkdtempSync(path.join(tmpdir(), 'torchbind-test-'));
  const output = path.join(directory, 'results.json');
  try {
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${output}`];
    const status = await runVisibly(process.execPath, [
      inRoot('node_modules/vitest/vitest.mjs'),
      'run',
      ...reporters,
      ...args,
    ]);
    return counts(output, status);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** A file that cannot even be loaded, or an error outside any test, fails the run without a failed test: it counts too. */
function counts(output, status) {
  let results;
  try {
    results = JSON.parse(readFileSync(output, 'utf8'));
  } catch {
    return { passed: 0, failed: 1, skipped: 0 };
  }
  const brokenFiles = results.testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.length === 0,
  );
  const failed = results.numFailedTests + brokenFiles.length;
  return {
    passed: results.numPassedTests,
    failed: status !== 0 && failed === 0 ? 1 : failed,
    skipped: results.numPendingTests + results.numTodoTests,
  };
}
