/** Process groups: two ranks on loopback, of Node and of Python. */
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { pythonTimeout } from '../helpers/python';
import { temporaryDirectory } from '../helpers/tmp';
import { distributed, nn } from '../../lib';
import { runRanks, startRanks } from './ranks';

const expected = (rank: number): Record<string, unknown> => ({
  rank,
  size: 2,
  name: '0',
  sum: [4, 4, 4],
  max: [1, 5],
  half: [2, 2],
  broadcast: [1, 0.5],
  gathered: [[[0, 1]], [[1, 1]]],
  part: rank === 0 ? [1, 2] : [20, 1],
  atOne: rank === 0 ? null : [[0.5], [1.5]],
  scattered: rank === 0 ? [1.5, 2] : [3.5, 4],
  ...(rank === 0 ? {} : { from: 0, received: [7, 8] }),
  objects: [0, 1].map((each) => ({ name: `rank ${each}`, list: [1, 2.5, null, true], text: 'x'.repeat(each * 300) })),
  list: ['a', 2, null],
  sub: [rank - 1, 1],
  second: ['2', 3],
  functional: [3, 3],
});

describe.each([
  ['Node and Node', 'node', 'node'],
  ['Node as rank 0 and Python', 'node', 'python'],
  ['Python as rank 0 and Node', 'python', 'node'],
] as const)('one group of %s', (_, first, second) => {
  it(
    'exchanges tensors and values by every collective',
    async () => {
      const said = await runRanks([
        { part: 'collectives', language: first },
        { part: 'collectives', language: second },
      ]);
      expect(said).toEqual([[expected(0)], [expected(1)]]);
    },
    pythonTimeout,
  );
});

it('has what only Node calls, and ends', async () => {
  const [zero, one] = await runRanks([{ part: 'more' }, { part: 'more' }]);
  const both = { one: 'from one', empty: [], isInitialized: true, backend: 'gloo', complex: [{ re: 2, im: 1 }] };
  expect(zero![0]).toMatchObject({ ...both, exchanged: [[0], [10]], any: null, objects: [0, 1] });
  expect(one![0]).toMatchObject({ ...both, exchanged: [[1], [11]], reduced: 4, any: 0, objects: null });
  expect(zero![0]).toMatchObject({ unknown: { message: expect.stringContaining('nope') as string } });
  const gone = { isInitialized: false, after: { code: 'ERR_TORCHBIND_NO_PROCESS_GROUP' } };
  expect([zero![1], one![1]]).toMatchObject([gone, gone]);
});

it('leaves the event loop free while a rank is late', async () => {
  const [[zero]] = (await runRanks([{ part: 'late' }, { part: 'late' }])) as [[Record<string, number>]];
  expect(zero!.whileJoining).toBeGreaterThan(5);
  expect(zero!.whileWaiting).toBeGreaterThan(5);
});

describe('without a group', () => {
  it('says what to do', async () => {
    expect(distributed.isInitialized()).toBe(false);
    expect(() => distributed.rank()).toThrow(/initProcessGroup/);
    await expect(distributed.barrier()).rejects.toMatchObject({ code: 'ERR_TORCHBIND_NO_PROCESS_GROUP' });
    expect(() => new nn.parallel.DistributedDataParallel(new nn.Linear(1, 1))).toThrow(/initProcessGroup/);
  });

  it('refuses options that are wrong, by name', async () => {
    const { initProcessGroup } = distributed;
    await expect(initProcessGroup({ backand: 'gloo' } as never)).rejects.toThrow(/backend/);
    await expect(initProcessGroup({ backend: 'mpi' as never })).rejects.toThrow(/gloo/);
    await expect(initProcessGroup({ rank: 2, worldSize: 2, masterAddress: 'x', masterPort: 1 })).rejects.toThrow(
      /not below/,
    );
    await expect(initProcessGroup({ timeout: 0 })).rejects.toThrow(/timeout/);
    await expect(initProcessGroup({ rank: 0, worldSize: 2, masterPort: 1 })).rejects.toThrow(/MASTER_ADDR.*torchrun/s);
  });

  it('is refused in a worker thread, with the reason', async () => {
    const [{ ended }] = (await startRanks([{ part: 'inWorker' }])) as unknown as [
      { ended: Promise<{ said: unknown[] }> },
    ];
    expect((await ended).said).toEqual([
      { code: 'ERR_TORCHBIND_THREAD', message: expect.stringContaining('main thread') as string },
    ]);
  });

  it('gives up after the timeout where ranks are missing', async () => {
    const [{ ended }] = (await startRanks([{ part: 'lonely' }])) as unknown as [
      { ended: Promise<{ said: unknown[] }> },
    ];
    expect((await ended).said).toMatchObject([{ code: 'ERR_TORCHBIND_DISTRIBUTED_TIMEOUT' }]);
  });
});

describe('process.exit()', () => {
  // `join` and `update` are parts of fit, on a compute thread.
  it.each(['collective', 'destroy', 'model', 'join', 'update'])(
    'is immediate while a rank waits in: %s',
    async (stage) => {
      const stopped = path.join(temporaryDirectory(), 'stopped');
      const [zero, one] = await startRanks([{ part: 'exits' }, { part: 'exits' }], [stage, stopped]);
      const end = await zero!.ended;
      one!.child.kill('SIGKILL');
      await one!.ended;
      expect(end).toMatchObject({ status: 7, signal: null });
    },
  );

  it('is immediate while other ranks are waited for', async () => {
    const [zero] = await startRanks([{ part: 'exits' }], ['init']);
    expect(await zero!.ended).toMatchObject({ status: 7, signal: null, stderr: '' });
  });
});

describe('DistributedDataParallel', () => {
  beforeAll(() => undefined);

  it.each(['copies', 'views'])('trains as one process with the whole batch does (gradients are %s)', async (how) => {
    const said = (await runRanks([{ part: 'parallel' }, { part: 'parallel' }], [how])) as [
      { difference: number; keys: string[]; sum: number },
    ][];
    // Sums of the same numbers in another order.
    for (const [{ difference }] of said) expect(difference).toBeLessThan(1e-14);
    expect(said[0]![0].keys).toEqual(['module.0.weight', 'module.0.bias', 'module.2.weight', 'module.2.bias']);
    expect(said[0]![0].sum).toBe(said[1]![0].sum);
  });

  it.each([
    ['0', ['node', 'python']],
    ['1', ['python', 'node']],
  ] as const)(
    'takes part in a Python job as rank %s, and ends with the same weights',
    async (_, languages) => {
      const said = await runRanks(languages.map((language) => ({ part: 'mixed', language })));
      expect(said[0]).toEqual(said[1]);
      expect(JSON.stringify(said[0])).toMatch(/\d\.\d{6}/);
    },
    pythonTimeout,
  );

  it('refuses modules that differ between ranks', async () => {
    const ends = await Promise.all(
      (await startRanks([{ part: 'different' }, { part: 'different' }])).map((r) => r.ended),
    );
    expect(ends.flatMap(({ said }) => said)).toMatchObject([
      { message: expect.stringMatching(/DistributedDataParallel \(rank/) as string },
      { message: expect.stringMatching(/DistributedDataParallel \(rank/) as string },
    ]);
  });

  it('averages what the ranks use in turn', async () => {
    const said = await runRanks([{ part: 'unused' }, { part: 'unused' }]);
    const half = [[[0.5, 0.5]], [0.5], [[0.5, 0.5]], [0.5]];
    expect(said).toEqual([[half], [half]]);
  });
});
