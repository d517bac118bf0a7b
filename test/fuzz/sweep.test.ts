import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';

interface Summary {
  calls: number;
  refused: number;
}

// The whole of it, 100,000 calls, is `npm run fuzz -- --sweep`.
test(
  'every export refuses what is wrong with a TorchBindError, and leaves no file and no tensor behind',
  { timeout: 200_000 },
  () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'torchbind-sweep-run-'));
    const record = path.join(directory, 'record');
    const { stdout, signal, status } = spawnSync(
      process.execPath,
      ['--expose-gc', path.join(__dirname, 'sweep/sweep.cjs'), record],
      { encoding: 'utf8', timeout: 180_000 },
    );
    const last = readFileSync(record, 'utf8').trim();
    rmSync(directory, { recursive: true });
    expect({ signal, status }, `ended in: ${last}`).toEqual({ signal: null, status: 0 });
    const lines = stdout.trim().split('\n');
    const { summary } = JSON.parse(lines.pop()!) as { summary: Summary };
    expect(lines).toEqual([]);
    expect(summary.calls).toBeGreaterThan(9000);
    expect(summary.refused).toBeGreaterThan(summary.calls / 2);
  },
);
