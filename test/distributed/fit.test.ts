/** `fit` on two ranks: it trains what one process with the whole batch does, and saves what that would save. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { sharedTemporaryDirectory } from '../helpers/tmp';
import { runRanks, startRanks } from './ranks';

interface Fit {
  losses: number[];
  step: number;
  valLoss: number | null;
  stopped: string;
  weights: number[];
  seen: unknown[];
  /** Where updates were computed: one entry for each change. */
  places: string[];
  random: number[];
}

const root = sharedTemporaryDirectory();
const common = { maxSteps: 20, seed: 7, gradAccumulation: 2, gradClip: 0.5, evalInterval: 10, evalSteps: 2 };

async function fit(options: object, ranks = 2): Promise<Fit[]> {
  const said = await runRanks(
    Array.from({ length: ranks }, () => ({ part: 'fits' })),
    [JSON.stringify(options)],
  );
  return said.map(([each]) => each as Fit);
}

function expectClose(actual: number[], expected: number[], tolerance: number): void {
  expect(actual).toHaveLength(expected.length);
  actual.forEach((value, i) => expect(Math.abs(value - expected[i]!)).toBeLessThan(tolerance));
}

describe.each(['random', 'epochs'])('windows in the order: %s', (dataOrder) => {
  it('two ranks of B windows train as one of 2 B, and agree to the last bit', async () => {
    const [one] = await fit({ ...common, dataOrder, batchSize: 4, group: false, thread: 'main' }, 1);
    const [zero, other] = await fit({ ...common, dataOrder, batchSize: 2 });
    // float64; sums of the same numbers in another order.
    expectClose(zero!.losses, one!.losses, 1e-12);
    expectClose(zero!.weights, one!.weights, 1e-12);
    expectClose([zero!.valLoss!], [one!.valLoss!], 1e-12);
    expect({ ...other, random: [] }).toEqual({ ...zero, random: [] });
    expect(zero!.places).toEqual(['worker']);
  });
});

it('a group of one rank trains as a process without one, to the bit', async () => {
  const options = { ...common, batchSize: 2, dropout: 0.2 };
  const [alone] = await fit({ ...options, group: false }, 1);
  const [grouped] = await fit(options, 1);
  expect(grouped).toEqual(alone);
});

describe('on compute threads', () => {
  const options = { ...common, maxSteps: 6, batchSize: 2, dropout: 0.2, evalInterval: 3 };
  const [here, there] = ['main', 'worker'].map((name) => path.join(root, name)) as [string, string];
  let worker: Fit[];
  beforeAll(async () => {
    worker = await fit({ ...options, checkpointDir: there });
  });

  it("trains and saves as on the caller's threads, to the bit", async () => {
    const main = await fit({ ...options, thread: 'main', checkpointDir: here });
    expect(worker.map(({ places }) => places)).toEqual([['worker'], ['worker']]);
    expect(main.map(({ places }) => places)).toEqual([['main'], ['main']]);
    expect(main.map((each) => ({ ...each, places: [] }))).toEqual(worker.map((each) => ({ ...each, places: [] })));
    for (const file of ['model.pt', 'optimizer.pt', 'random_state.pt'])
      expect(readFileSync(path.join(there, file)).equals(readFileSync(path.join(here, file))), file).toBe(true);
  });

  it('all ranks make new reducers where one has to compute on its own thread from some update on', async () => {
    const hooked = await fit({ ...options, hookAfter: 2 });
    expect(hooked.map(({ places }) => places)).toEqual([['worker'], ['worker', 'main']]);
    expect(hooked.map(({ losses, weights }) => [losses, weights])).toEqual(
      worker.map(({ losses, weights }) => [losses, weights]),
    );
  });

  it('the event loop turns while another rank is slow in its backward pass', async () => {
    const files = ['stopped', 'turned'].map((name) => path.join(root, name));
    const [zero, one] = await runRanks([{ part: 'slowInFit' }, { part: 'slowInFit' }], files);
    expect(zero).toHaveLength(1);
    expect(one).toEqual(zero);
  });
});

it('activation checkpointing and the chunked loss change nothing but rounding', async () => {
  const options = { ...common, maxSteps: 3, batchSize: 2, rope: true, evalInterval: 0 };
  const [zero] = await fit({ ...options, activationCheckpointing: true, chunkedLoss: true });
  const [plain] = await fit(options);
  expect(zero!.places).toEqual(['main']);
  expectClose(zero!.losses, plain!.losses, 1e-12);
  expectClose(zero!.weights, plain!.weights, 1e-12);
});

describe('saving and resuming', () => {
  // Bundles are opened in float32.
  const options = { ...common, batchSize: 2, dropout: 0.2, dtype: 'float32', evalInterval: 0 };
  let whole: Fit[];
  let resumed: Fit[];
  let directory: string;

  beforeAll(async () => {
    whole = await fit({ ...options, maxSteps: 8, checkpointDir: path.join(root, 'whole') });
    directory = path.join(root, 'parts');
    await fit({ ...options, maxSteps: 4, saveEvery: 2, checkpointDir: directory });
    resumed = await fit({ ...options, maxSteps: 4, resume: directory });
  }, 120_000);

  it('resumes with the same number of ranks as if it had not stopped, dropout included', () => {
    for (const rank of [0, 1]) {
      expect(resumed[rank]!.losses).toEqual(whole[rank]!.losses.slice(4));
      expect(resumed[rank]!.weights).toEqual(whole[rank]!.weights);
      expect(resumed[rank]!.random).toEqual(whole[rank]!.random);
      expect(resumed[rank]!.seen).toEqual(['resume', []]);
    }
    expect(resumed[0]!.random).not.toEqual(resumed[1]!.random);
  });

  it('rank 0 alone saves, in one bundle', () => {
    expect(whole[0]!.seen).toEqual(['save']);
    expect(whole[1]!.seen).toEqual([]);
    expect(readdirSync(directory)).toEqual(expect.arrayContaining(['model.pt', 'manifest.json', 'random_state.pt']));
  });

  it('continues with another number of ranks, and says what differs', async () => {
    const [one] = await fit({ ...options, maxSteps: 1, resume: directory, group: false }, 1);
    expect(one!.step).toBe(5);
    expect(one!.seen).toEqual(['resume', [expect.stringContaining('2 saved them and now 1 train') as string]]);
  });
});

it('refuses ranks that do not begin the same run', async () => {
  const ranks = [0, 1].map(() => ({ part: 'fits' }));
  const port = await startRanks(
    ranks.map((rank, i) => ({ ...rank, env: { UNEQUAL: String(i) } })),
    [JSON.stringify({ ...common, batchSize: 2, unequal: true })],
  );
  const ends = await Promise.all(port.map(({ ended }) => ended));
  for (const { status, stderr } of ends) {
    expect(status).toBe(1);
    expect(stderr).toContain('ERR_TORCHBIND_RANKS_DIFFER');
    expect(stderr).toMatch(/rank 0 has batchSize 2, rank 1 has 3/);
  }
});

it('all ranks stop after the same update when one of them is told to', async () => {
  const started = await startRanks(
    [{ part: 'fits' }, { part: 'fits' }],
    [
      JSON.stringify({
        ...common,
        maxSteps: 1_000_000,
        evalInterval: 0,
        batchSize: 2,
        handleSignals: true,
        notify: true,
      }),
    ],
  );
  await new Promise<void>((resolve) => started[1]!.child.stdout!.once('data', () => resolve()));
  started[1]!.child.kill('SIGTERM');
  const ends = await Promise.all(started.map(({ ended }) => ended));
  const [zero, one] = ends.map(({ said }) => said.at(-1) as Fit);
  expect(zero!.stopped).toBe('SIGTERM');
  expect(one).toEqual({ ...zero, random: one!.random });
});
