#!/usr/bin/env node
// npm run gpu-check: does on a GPU what the tests do on the CPU, and times it next to Python. docs/gpu.md says more.
import { main } from './steps.mjs';
import { parseOptions } from './gpu-check/options.mjs';

main(async (args) => {
  const options = parseOptions(args);
  if (options.help) return void process.stdout.write(options.help);
  if (options.pack) {
    const { pack } = await import('./gpu-check/pack.mjs');
    return pack(options);
  }
  const { check } = await import('./gpu-check/check.mjs');
  return check(options);
});
