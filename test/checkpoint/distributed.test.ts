/** Distributed checkpoints: what torch.distributed.checkpoint and FSDP save, and what they load again. */
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it, test } from 'vitest';
import { compare, inspect, saveDistributed } from '../../lib/checkpoint';
import { coversOnce } from '../../lib/formats/dcp/tiling';
import { load } from '../../lib/formats/pt';
import { GPT } from '../../lib/gpt/gpt';
import { ones, tensor, zeros } from '../../lib/tensor/creation';
import { dispose, memory } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { pythonJson, pythonTimeout } from '../helpers/python';
import { sharedTemporaryDirectory, temporaryDirectory } from '../helpers/tmp';

const script = path.join(__dirname, 'distributed.py');
const directory = sharedTemporaryDirectory();
const at = (...names: string[]): string => path.join(directory, ...names);
type Tensors = Map<string, Tensor>;

let expected: { whole: Tensors; moments: Tensors };
let single: Map<string, Map<string, unknown>>;

beforeAll(async () => {
  await pythonJson(script, ['make', directory]);
  const dict = (await load(at('expected.pt'))) as Map<string, Tensors>;
  expected = { whole: dict.get('whole')!, moments: dict.get('moments')! };
  single = (await load(at('single.pt'))) as typeof single;
}, pythonTimeout);

const open = (name: string): Promise<GPT> => GPT.load(at(name), { config: { nHead: 2 }, optimizer: true });

function expectEqual(actual: ReadonlyMap<string, unknown>, wanted: ReadonlyMap<string, unknown>): void {
  expect([...actual.keys()].sort()).toEqual([...wanted.keys()].sort());
  for (const [key, value] of wanted) expect((actual.get(key) as Tensor).equal(value as Tensor), key).toBe(true);
}

/** Changes the metadata. */
function change(target: string, from: string, to: string, name = '.metadata'): void {
  const file = path.join(target, name);
  const bytes = readFileSync(file, 'latin1');
  expect(bytes).toContain(from);
  writeFileSync(file, bytes.replaceAll(from, to), 'latin1');
}

/** Of an optimizer's state dict with names, by `<name>.<part>`. */
function momentsOf(state: ReadonlyMap<string, unknown>): Map<string, unknown> {
  const groups = state.get('param_groups') as Map<string, unknown[]>[];
  const names = groups.flatMap((group) => group.get('param_names') as string[]);
  const found = new Map<string, unknown>();
  for (const [index, parts] of state.get('state') as Map<number, Map<string, unknown>>)
    for (const [part, value] of parts) if (part !== 'step') found.set(`${names[index]!}.${part}`, value);
  return found;
}

describe('GPT.load opens, with the optimizer', () => {
  it.each(['fsdp', 'titan/step-2', 'titan', 'trainer/checkpoint-2', 'trainer'])(
    'what two ranks of FSDP saved: %s',
    async (name) => {
      const model = await open(name);
      expect(model).toMatchObject({ step: 2, origin: { form: 'distributed', layout: 'nanogpt' } });
      expectEqual(model.stateDict(), expected.whole);
      const state = model.optimizerStateDict(model.optimizer!);
      expectEqual(momentsOf(state), expected.moments);
      expect(model.optimizer!.paramGroups.map(({ weightDecay }) => weightDecay)).toEqual([0.1, 0]);
    },
  );

  it.each(['single', 'app'])('what one process saved: %s', async (name) => {
    const model = await open(name);
    expectEqual(model.stateDict(), single.get('model')!);
    const state = model.optimizerStateDict(model.optimizer!).get('state') as Map<number, Map<string, unknown>>;
    const wanted = single.get('optimizer')!.get('state') as typeof state;
    expect([...state.keys()]).toEqual([...wanted.keys()]);
    for (const [index, parts] of wanted) expectEqual(state.get(index)!, parts);
  });

  it('and reads none of the optimizer where it is not asked for', async () => {
    const before = memory().numTensors;
    const model = await GPT.load(at('fsdp'), { config: { nHead: 2 } });
    expect(memory().numTensors - before).toBeLessThan(expected.whole.size * 2);
    await expect(model.save(at('fsdp'))).rejects.toMatchObject({ code: 'ERR_TORCHBIND_SAVE' });
  });
});

test('load, inspect and compare take the directories of accelerate as one checkpoint', async () => {
  const [directory, moved] = [at('trainer/checkpoint-2'), path.join(temporaryDirectory(), 'moved')];
  const all = (await load(directory)) as Map<string, Map<string, unknown>>;
  expect([...all.keys()]).toEqual(['model', 'optimizer']);
  expectEqual(all.get('model')!, expected.whole);
  const inspection = await inspect(at('trainer'), { verify: true });
  expect(inspection).toMatchObject({
    step: 2,
    family: { name: 'nanogpt' },
    optimizer: { states: expected.whole.size },
  });
  expect(inspection).toMatchObject({ problems: [], integrity: { verified: true }, container: { kind: 'distributed' } });
  const { totals } = await compare(directory, at('fsdp'));
  expect(totals).toMatchObject({ tensors: expected.whole.size, equal: true });
  cpSync(directory, moved, { recursive: true });
  change(moved, '__1_0.distcp', '__2_0.distcp', 'optimizer_0/.metadata');
  await expect(load(moved)).rejects.toThrow(/optimizer_0.__2_0.distcp is missing/);
  rmSync(path.join(moved, 'optimizer_0'), { recursive: true });
  expect((await load(moved)) as typeof all).toHaveProperty('size', 1);
});

test(
  'Python loads what is written back, and what is written on request',
  async () => {
    for (const name of ['fsdp', 'single', 'app', 'trainer']) await (await open(name)).save(at(`again-${name}`));
    const model = await open('fsdp');
    await model.save(at('bundle'), { layout: 'nanogpt', distributed: true });
    expect((await GPT.load(at('bundle'))).origin).toMatchObject({ form: 'distributed' });
    await model.saveCheckpointBundle(at('as-bundle'), { keep: null });
    const fromBundle = await GPT.load(at('as-bundle'), { optimizer: true });
    await fromBundle.save(at('new'), { distributed: true });
    await fromBundle.save(at('new'), { distributed: true }); // over the one before
    expect(readdirSync(at('new')).sort()).toEqual(['.metadata', '__0_0.distcp', 'config.json']);
    const list = [ones([2]).to('bfloat16'), { d: tensor(3) }];
    await saveDistributed(
      {
        a: ones([2, 3]),
        b: new Map<string, unknown>([
          ['c', list],
          ['e', 5],
          ['f', 'text'],
        ]),
        k: [1, 2],
      },
      at('values'),
    );
    expect(await pythonJson(script, ['check', directory])).toEqual({
      ...Object.fromEntries(
        ['again-fsdp', 'new', 'again-trainer'].flatMap((name) => [
          [name, true],
          [`${name} moments`, true],
          [`${name} steps`, [2]],
          [`${name} decay`, [0.1, 0]],
        ]),
      ),
      'again-single': true,
      'again-single step': 2,
      'again-app': true,
      values: [
        [
          [1, 1, 1],
          [1, 1, 1],
        ],
        [1, 1],
        3,
        5,
        'text',
      ],
      converted: ['a', 'b', 'k'],
    });
  },
  pythonTimeout,
);

test('load puts tensors together that were cut unevenly, along columns, along both, or not at all', async () => {
  const all = (await load(at('shapes'))) as Map<string, Tensor>;
  const odd = Array.from({ length: 3 }, (_, row) => Array.from({ length: 7 }, (__, column) => row * 7 + column));
  for (const name of ['uneven', 'columns', 'both', 'copy']) expect(all.get(name)!.tolist(), name).toEqual(odd);
  expect(all.get('half')).toMatchObject({ dtype: 'bfloat16', shape: [3, 7] });
  expect(all.get('turned')!.tolist()).toEqual(odd[0]!.map((_, i) => odd.map((row) => row[i])));
  expect([all.get('row')!.tolist(), all.get('nothing')!.shape, all.get('scalar')!.item()]).toEqual([
    [[1, 1, 1]],
    [0, 3],
    7,
  ]);
  const nested = all.get('nested') as unknown as Map<string, unknown[]>;
  expect([[...(nested.get('list')![0] as Map<string, number>)], nested.get('plain'), nested.has('empty')]).toEqual([
    [['a', 1]],
    [1, 2.5],
    false,
  ]);
  expect(await load(at('shapes', '__1_0.distcp'))).toBeInstanceOf(Map);
});

test('inspect and compare', async () => {
  const report = await inspect(at('fsdp'), { verify: true });
  expect(report).toMatchObject({
    container: { kind: 'distributed', version: '1.0.0', records: 2 },
    family: { name: 'nanogpt' },
    step: 2,
    problems: [],
    integrity: { checksums: 'crc32', verified: true },
    optimizer: {
      states: 10,
      parts: ['exp_avg', 'exp_avg_sq', 'step'],
      groups: [{ lr: 1e-3, weightDecay: 0.1 }, { weightDecay: 0 }],
    },
  });
  expect(report.globals.every(({ verdict }) => verdict === 'known')).toBe(true);
  expect((await inspect(at('titan'))).container.notes).toContain('in step-2');
  const { totals } = await compare(at('single'), at('single.pt'));
  expect(totals).toMatchObject({ tensors: 10, equalTensors: 10 });
});

describe('files that are damaged or hostile', () => {
  const copy = (): string => {
    const target = path.join(temporaryDirectory(), 'dcp');
    cpSync(at('fsdp'), target, { recursive: true });
    return target;
  };
  const key = 'model.transformer.wpe.weight';
  /** Replaces bytes of the metadata, which stay as many. */
  const cases: [string, RegExp, (target: string) => void][] = [
    ['a part is missing', /__2_0.distcp is missing.*not complete/, (t) => change(t, '__1_0.distcp', '__2_0.distcp')],
    [
      'a part was cut short',
      /__1_0.distcp has 1000 bytes where .metadata names \d+: it was cut short/,
      (t) => truncateSync(path.join(t, '__1_0.distcp'), 1000),
    ],
    [
      'a path leads out of the directory',
      /not the plain name of a file/,
      (t) => change(t, '__1_0.distcp', '../../passwd'),
    ],
    [
      'a name only an attack has a use for',
      /"marshal.PosixPath", which runs code/,
      (t) => change(t, 'pathlib', 'marshal'),
    ],
    [
      'a class that the metadata has no use for',
      /not a class or function that torchbind knows/,
      (t) => change(t, 'BytesStorageMetadata', 'BytesStorageMetadatA'),
    ],
    ['the metadata is cut short', /metadata/, (t) => truncateSync(path.join(t, '.metadata'), 900)],
    [
      'bytes of a tensor are damaged',
      /"[a-z_.0-9]+": .*CRC-32/,
      (t) => {
        const file = path.join(t, '__0_0.distcp');
        const bytes = readFileSync(file);
        const record = bytes.indexOf('data/0') + 6;
        const place = bytes.indexOf(Buffer.from('PK\x07\x08'), record) - 3;
        bytes[place]! ^= 0x40;
        writeFileSync(file, bytes);
      },
    ],
    [
      'two chunks of a tensor are at one place',
      /"model.transformer.wte.weight" at \[0,0\] twice/,
      (t) =>
        change(
          t,
          `\x8c${String.fromCharCode(key.length)}${key}`,
          `\x8c${String.fromCharCode(key.length)}${'model.transformer.wte.weight'.slice(0, key.length)}`,
        ),
    ],
  ];

  it.each(cases)('%s', async (_, message, damage) => {
    const target = copy();
    damage(target);
    const before = memory().numTensors;
    const error = (await load(target).catch((thrown: unknown) => thrown)) as Error & { code: string };
    expect(error).toMatchObject({
      name: 'CheckpointError',
      code: expect.stringMatching(/^ERR_TORCHBIND_CHECKPOINT_/) as unknown,
    });
    expect(memory().numTensors).toBe(before);
    await expect(GPT.load(target)).rejects.toMatchObject({ code: error.code });
    const { problems } = await inspect(target, { verify: true });
    expect([error.message, ...problems.map((problem) => problem.message)].join('\n')).toMatch(message);
  });

  it('a part without metadata says what is missing', async () => {
    const target = copy();
    const alone = path.join(temporaryDirectory(), '__0_0.distcp');
    cpSync(path.join(target, '__0_0.distcp'), alone);
    await expect(load(alone)).rejects.toThrow(/file of a distributed checkpoint.*no \.metadata/);
    expect(existsSync(alone)).toBe(true);
  });

  it('a tiny file cannot claim a large tensor, nor chunks that overlap', async () => {
    const target = path.join(temporaryDirectory(), 'dcp');
    await saveDistributed({ a: zeros([70, 3]) }, target);
    // The sizes 70 and 3 are K\x46 and K\x03: 210 rows of 3 would be 2,520 bytes, more than the slice has.
    const file = path.join(target, '.metadata');
    writeFileSync(file, readFileSync(file, 'latin1').replaceAll('K\x46K\x03', 'K\xfaK\xfa'), 'latin1');
    await expect(load(target)).rejects.toThrow(/has 250000 bytes, more than the \d+ in __0_0\.distcp/);
    const box = (offsets: number[], sizes: number[]): { offsets: number[]; sizes: number[] } => ({ offsets, sizes });
    expect(coversOnce([4, 4], [box([0, 0], [2, 4]), box([2, 0], [2, 2]), box([2, 2], [2, 2])])).toBe(true);
    expect(coversOnce([4, 4], [box([0, 0], [2, 4]), box([1, 0], [2, 4])])).toBe(false);
    expect(coversOnce([4, 4], [box([0, 0], [2, 4])])).toBe(false);
    expect(coversOnce([4], [box([0], [4]), box([0], [4])])).toBe(false);
    expect(coversOnce([1, 3], [box([0, 0], [1, 3]), box([1, 0], [0, 3])])).toBe(true);
    expect(coversOnce([], [box([], [])])).toBe(true);
  });

  it('saveDistributed refuses what has no place there, and leaves nothing', async () => {
    const target = path.join(temporaryDirectory(), 'dcp');
    await expect(saveDistributed([1], target)).rejects.toThrow(/expected a state dict/);
    await expect(saveDistributed({ a: { b: 1 }, 'a.b': 2 }, target)).rejects.toThrow(
      /two values would have the key "a\.b"/,
    );
    await expect(saveDistributed({ a: () => 1 }, target)).rejects.toMatchObject({
      code: 'ERR_TORCHBIND_UNSUPPORTED_VALUE',
    });
    expect(existsSync(target)).toBe(false);
    dispose(single);
  });
});
