#!/usr/bin/env node
// npm run sanitize: the addon compiled with AddressSanitizer and UndefinedBehaviorSanitizer, its tests and a part of the
// fuzzer run under them, and what they report. About 15 minutes on 2 cores; Linux with gcc. Arguments go to vitest.
//
// Only the addon is instrumented: what libtorch and Node do inside is seen where it meets memory of the addon, or a
// function of the C library. Leaks are not looked for: Node and libtorch leave much to the end of the process on purpose.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fuzz } from '../test/fuzz/run.mjs';
import { sequences } from '../test/fuzz/sequences/run.mjs';
import { configureAndBuild } from './build-addon.mjs';
import { setup } from './setup.mjs';
import { inRoot, main, runVisibly, say } from './steps.mjs';

const SANITIZE = '-fsanitize=address,undefined -fno-omit-frame-pointer';
const directory = inRoot('build/sanitize');
const reports = path.join(directory, 'reports');
const TESTS = ['test/native', 'test/tensor', 'test/formats', 'test/fuzz/found.test.ts'];
// Resident memory means nothing besides the sanitizer's shadow and quarantine.
const NOT_MEASURED = '^(?!.*a synchronous loop that never yields stays small)';
const FUZZ_CALLS = 20_000;
const SEQUENCES = 20;

main(async (args) => {
  await setup({ python: true });
  const require = createRequire(import.meta.url);
  const { ensureLibtorch } = require(inRoot('dist/install/install.js'));
  const { terminalReporter } = require(inRoot('dist/install/report.js'));
  const reporter = terminalReporter();
  say('compiling the addon with the sanitizers');
  await configureAndBuild(await ensureLibtorch({ reporter }), reporter, path.join(directory, 'build'), [
    `--CDCMAKE_CXX_FLAGS=${SANITIZE} -g -O1`,
    `--CDCMAKE_MODULE_LINKER_FLAGS=${SANITIZE}`,
  ]);
  rmSync(reports, { recursive: true, force: true });
  mkdirSync(reports, { recursive: true });
  const environment = sanitized();

  say('running the tests under the sanitizers');
  const vitest = [inRoot('node_modules/vitest/vitest.mjs'), 'run', '-t', NOT_MEASURED];
  const env = { ...process.env, ...environment };
  const status = await runVisibly(process.execPath, [...vitest, ...(args.length > 0 ? args : TESTS)], { env });
  let findings = [];
  if (args.length === 0) {
    say(`making ${FUZZ_CALLS} random calls under the sanitizers`);
    // The fuzzer asks for tensors of any size; to fill those of gigabytes would count as a hang.
    const limited = { ...environment, ASAN_OPTIONS: `${environment.ASAN_OPTIONS}:max_allocation_size_mb=500` };
    const options = { seed: 1, environment: limited, unlimited: true };
    const single = await fuzz({ ...options, calls: FUZZ_CALLS });
    say(`making ${FUZZ_CALLS} calls that depend on one another under the sanitizers`);
    const dependent = await sequences({ ...options, seeds: SEQUENCES, calls: FUZZ_CALLS / SEQUENCES });
    findings = [...single.findings, ...dependent.findings];
    for (const finding of findings) process.stdout.write(JSON.stringify(finding) + '\n');
  }
  const reported = summary();
  say(
    `tests ${status === 0 ? 'passed' : 'failed'}, ${findings.length} findings of the fuzzer, ` +
      `${reported} reports of the sanitizers${reported > 0 ? ` in ${reports}` : ''}`,
  );
  return status !== 0 || findings.length > 0 || reported > 0 ? 1 : 0;
});

/** The environment in which Node loads the sanitizers first, and then the addon that was compiled for them. */
function sanitized() {
  const library = (name) => execFileSync('gcc', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();
  const log = path.join(reports, 'report');
  return {
    // libstdc++ too: Node brings its own, and the sanitizer must find the one whose exceptions the addon throws.
    LD_PRELOAD: ['libasan.so', 'libubsan.so', 'libstdc++.so.6'].map(library).join(' '),
    TORCHBIND_PREBUILD: directory, // where node-gyp-build looks instead of the package
    TORCHBIND_ALLOCATOR: 'libtorch', // each storage a block of malloc's, which the sanitizer watches
    ASAN_OPTIONS: [
      `log_path=${log}`,
      'detect_leaks=0',
      'allocator_may_return_null=1', // a request for 2^50 bytes is an error that the addon must handle, not a finding
      'intercept_tls_get_addr=0', // V8's thread-locals confuse it (nodejs/node runs so too)
      'exitcode=99',
    ].join(':'),
    UBSAN_OPTIONS: `log_path=${log}:print_stacktrace=1`,
  };
}

/** Prints the first lines of every report, and gives their number. That memory was refused is a warning, and what tests ask for. */
function summary() {
  let reported = 0;
  for (const file of readdirSync(reports)) {
    const text = readFileSync(path.join(reports, file), 'utf8');
    if (!/ERROR: |runtime error: /.test(text)) continue;
    const lines = text.split('\n').filter((line) => /ERROR|runtime error|SUMMARY|native\//.test(line));
    process.stdout.write(`${file}:\n${lines.slice(0, 12).join('\n')}\n`);
    reported++;
  }
  return reported;
}
