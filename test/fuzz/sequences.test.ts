import { pathToFileURL } from 'node:url';
import path from 'node:path';
import { beforeAll, expect, test } from 'vitest';

interface Finding {
  kind: string;
  seed: number;
  index: number;
}
interface Totals {
  calls: number;
  done: number;
  refused: number;
  findings: Finding[];
}
interface Options {
  seed: number;
  calls: number;
  environment?: Record<string, string>;
}
interface Module {
  sequences(options: Options & { seeds: number; jobs?: number }): Promise<Totals>;
  shrink(options: Options): Promise<{ steps: number[] } | undefined>;
}

let fuzzer: Module;

beforeAll(async () => {
  fuzzer = (await import(pathToFileURL(path.join(__dirname, 'sequences/run.mjs')).href)) as Module;
});

// Other seeds would find more, and would fail where nothing changed: npm run fuzz -- --sequences is for that.
test(
  '2,400 calls that depend on one another: no crash, no hang, only TorchBindErrors',
  { timeout: 600_000 },
  async () => {
    const { calls, done, refused, findings } = await fuzzer.sequences({ seed: 1, seeds: 4, calls: 600, jobs: 2 });
    expect(findings).toEqual([]);
    expect(calls).toBe(2400);
    expect(done + refused).toBe(2400);
    expect(done).toBeGreaterThan(800); // the values are good enough to reach the kernels
  },
);

test(
  'a crash is reported with its seed and step, and cut down to the steps that it needs',
  { timeout: 600_000 },
  async () => {
    const environment = { TORCHBIND_FUZZ_CRASH: '2' };
    const { findings, calls } = await fuzzer.sequences({ seed: 7, seeds: 1, calls: 4, environment });
    expect(findings).toMatchObject([{ kind: 'crash', seed: 7, index: 2 }]);
    expect(calls).toBe(3);
    expect(await fuzzer.shrink({ seed: 7, calls: 4, environment })).toMatchObject({ steps: [2] });
  },
);
