/**
 * PyTorch's own operator samples, in Python and here. `npm run oracle` runs the same and writes docs/operators.md.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { setNumThreads } from '../../lib/index';
import { pythonJson } from '../helpers/python';
import { knownDifference } from './known';
import { replay } from './replay';
import type { Outcome } from './replay';
import { page, totals } from './table';
import type { Samples } from './table';

/** PyTorch needs half a minute for its samples, and several times that on a busy machine. */
const PATIENCE = 900_000;

const directory = mkdtempSync(path.join(tmpdir(), 'torchbind-oracle-'));
const outcomes = new Map<string, Outcome>();
let samples: Samples;

beforeAll(async () => {
  setNumThreads(1); // as in Python: sums are split by threads
  samples = await pythonJson(path.join(__dirname, 'samples.py'), [directory]);
}, PATIENCE);

afterAll(() => rmSync(directory, { recursive: true, force: true }));

test(
  "each of PyTorch's samples gives the same bits as in Python, forward and gradient",
  async () => {
    for (const file of samples.files) await replay(file, outcomes);
    const unexplained = [...outcomes].flatMap(([name, { problems }]) =>
      [...problems]
        .filter(([problem]) => knownDifference(name, problem) === undefined)
        .map(([problem, call]) => `${name} ${problem}: ${call}`),
    );
    expect(unexplained).toEqual([]);
  },
  PATIENCE,
);

test("nearly all of PyTorch's entries are covered", () => {
  const { operators, equal, calls, gradients } = totals(outcomes);
  expect(operators).toBeGreaterThanOrEqual(640);
  expect(equal).toBeGreaterThanOrEqual(operators - 5);
  expect(calls).toBeGreaterThan(18_000);
  expect(gradients).toBeGreaterThan(7_000);
});

test.runIf(process.env['TORCHBIND_OPERATOR_TABLE'])('the table is written', () => {
  const date = new Date().toISOString().slice(0, 10);
  const { torch, python } = samples.versions;
  const where = `${date} with PyTorch ${torch}, Python ${python}, Node.js ${process.versions.node}, ${process.platform} ${process.arch}`;
  writeFileSync(process.env['TORCHBIND_OPERATOR_TABLE']!, page(samples, outcomes, where));
});
