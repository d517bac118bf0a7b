#!/usr/bin/env node
// npm run oracle: PyTorch's own operator samples in Python and in torchbind; writes docs/operators.md and prints its
// first part.
import { readFileSync } from 'node:fs';
import { inRoot, main, runVisibly } from './steps.mjs';

main(async () => {
  const table = inRoot('docs/operators.md');
  const vitest = inRoot('node_modules/vitest/vitest.mjs');
  const env = { ...process.env, TORCHBIND_OPERATOR_TABLE: table };
  const status = await runVisibly(process.execPath, [vitest, 'run', 'test/oracle'], { env });
  if (status === 0) process.stdout.write(readFileSync(table, 'utf8').split('## Covered')[0]);
  return status;
});
