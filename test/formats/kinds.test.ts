/** Every kind of value and container of Python's that `load` reads, and the way back. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { load, save } from '../../lib/formats/pt';
import {
  ComplexValue,
  Counter,
  DefaultDict,
  FrozenSet,
  GlobalName,
  InertObject,
  NumpyScalar,
  Tuple,
} from '../../lib/pickle/types';
import { tidy } from '../../lib/tensor/scope';
import { Tensor } from '../../lib/tensor/tensor';
import { pythonJson, pythonTimeout } from '../helpers/python';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const script = path.join(__dirname, 'kinds.py');
const directory = sharedTemporaryDirectory();
const fileOf = (name: string): string => path.join(directory, `${name}.pt`);

/** Kinds that Python's weights-only reader takes, and others. */
const safe = ['quantized', 'sparse', 'meta'];
const trusted = ['numpy', 'collected', 'inert', 'rng_state'];
const randoms = Array.from({ length: 120 }, (_, i) => `random${i}`);

const older = [
  ...[1, 2, 3, 4, 5].map((protocol) => `legacy${protocol}`),
  ...['legacy_big', 'legacy_views', 'tar_gnu', 'tar_pax', 'tar_ustar'],
];

let contained: Record<string, unknown>;
let checked: Record<string, { equal: boolean; safe: [boolean, boolean] }>;

beforeAll(async () => {
  contained = await pythonJson(script, ['make', directory]);
  for (const name of [...safe, ...trusted, ...randoms, ...older]) {
    await tidy(async () => {
      await save(await load(fileOf(name), { exact: true, unknown: 'inert' }), fileOf(`again_${name}`));
    });
  }
  checked = await pythonJson(script, ['check', directory]);
}, pythonTimeout);

/** As kinds.py's `plainly`. */
function plainly(value: unknown): unknown {
  if (value instanceof Tensor) {
    const pair = (item: unknown): unknown =>
      Array.isArray(item)
        ? item.map(pair)
        : typeof item === 'object' && item !== null && 're' in item
          ? [item.re, (item as unknown as ComplexValue).im]
          : typeof item === 'bigint'
            ? Number(item)
            : item;
    return { dtype: value.dtype, stride: value.strides(), values: pair(value.tolist()) };
  }
  if (value instanceof Map)
    return Object.fromEntries([...(value as Map<string, unknown>)].map(([key, item]) => [key, plainly(item)]));
  return value;
}

describe('values that are read and written again are equal in Python', () => {
  it.each([...safe, ...trusted])('%s', (name) => {
    expect(checked[name]!.equal).toBe(true);
  });

  it.each(older)('%s, which comes back in the zip of today', (name) => {
    expect(readFileSync(fileOf(`again_${name}`)).toString('latin1', 0, 4)).toBe('PK\x03\x04');
    expect(checked[name]).toMatchObject({ equal: true, safe: [expect.any(Boolean), true] });
  });

  it('random nested values of all kinds', () => {
    expect(randoms.filter((name) => !checked[name]!.equal)).toEqual([]);
  });

  it("and open with weights_only=True where Python's own file does", () => {
    for (const [name, { safe: opens }] of Object.entries(checked)) if (opens[0]) expect(opens[1], name).toBe(true);
    expect(safe.every((name) => checked[name]!.safe[0])).toBe(true);
    expect(randoms.filter((name) => checked[name]!.safe[0]).length).toBeGreaterThan(20);
  });
});

describe('containers', () => {
  it.each(older.flatMap((name) => [false, true].map((mmap) => ({ name, mmap }))))(
    '$name, mapped: $mmap',
    async ({ name, mmap }) => {
      await tidy(async () => expect(plainly(await load(fileOf(name), { mmap }))).toEqual(contained[name]));
    },
  );

  it('tensors of them share the storages that they shared', async () => {
    await tidy(async () => {
      for (const [name, one, other] of [
        ['legacy2', 'a', 'tied'],
        ['legacy_views', 'whole', 'view'],
        ['tar_gnu', 'w', 'v'],
      ] as const) {
        const value = (await load(fileOf(name))) as Map<string, Tensor>;
        value.get(one)!.fill_(42);
        expect(value.get(other)!.sum().item(), name).toBe(42 * value.get(other)!.numel());
      }
    });
  });

  it.each([
    ['mobile.pt', 'mobile interpreter'],
    ['exported.pt2', 'torch.export'],
    ['packaged.pt', 'torch.package'],
  ])('%s is refused as a program', async (name, text) => {
    const refusal = load(path.join(directory, name));
    await expect(refusal).rejects.toMatchObject({ code: 'ERR_TORCHBIND_CHECKPOINT_FORMAT' });
    await expect(refusal).rejects.toThrow(text);
  });
});

describe('values as JavaScript has them', () => {
  it("NumPy's arrays are tensors and its scalars numbers, in every protocol", async () => {
    for (const protocol of [0, 1, 2, 3, 4, 5]) {
      await tidy(async () => {
        const file = (await load(fileOf(`protocol${protocol}`))) as Map<string, Map<string, unknown>>;
        const arrays = file.get('n')!.get('arrays') as Map<string, Tensor>;
        expect(arrays.get('i4')!.dtype).toBe('int32');
        expect(arrays.get('fortran')!.tolist()).toEqual([
          [0, 1, 2],
          [3, 4, 5],
        ]);
        expect(arrays.get('zero_d')!.item()).toBe(7);
        expect(arrays.get('slice')!.tolist()).toEqual([2, 5, 8]);
        const scalars = file.get('n')!.get('scalars') as unknown[];
        expect(scalars.slice(0, 11)).toEqual(Array(11).fill(3));
        expect(scalars[11]).toBe(true);
        expect(scalars[12]).toEqual(new ComplexValue(3, 0));
        expect(scalars[14]).toBeCloseTo(-0.1, 4);
        expect(scalars[15]).toBe(NaN);
      });
    }
    await tidy(async () => {
      expect(((await load(fileOf('numpy_big_endian'))) as Tensor).tolist()).toEqual([0, 1, 2]);
      const exact = (await load(fileOf('numpy'), { exact: true })) as Map<string, unknown[]>;
      expect(exact.get('scalars')![0]).toBeInstanceOf(NumpyScalar);
      expect(Number(exact.get('scalars')![0])).toBe(3);
    });
  });

  it("the Trainer's state of random numbers opens", async () => {
    await tidy(async () => {
      const state = (await load(fileOf('rng_state'))) as Map<string, unknown>;
      const [version, words] = state.get('python') as Tuple;
      expect(version).toBe(3);
      expect((words as Tuple).length).toBe(625);
      const [name, keys] = state.get('numpy') as Tuple;
      expect(name).toBe('MT19937');
      expect([(keys as Tensor).dtype, (keys as Tensor).shape]).toEqual(['uint32', [624]]);
    });
  });

  it('sets, counters and defaultdicts have classes of their own', async () => {
    const value = (await load(fileOf('collected'))) as Map<string, unknown>;
    const counts = value.get('default') as DefaultDict;
    expect(counts).toBeInstanceOf(DefaultDict);
    expect(String(counts.factory)).toBe('builtins.list');
    expect([...counts]).toEqual([
      ['a', [1, 2]],
      ['b', []],
    ]);
    expect((value.get('shared') as unknown[])[0]).toBe(counts);
    expect(value.get('counter')).toBeInstanceOf(Counter);
    expect((value.get('no_factory') as DefaultDict).factory).toBe(null);
    const [plain, frozen] = value.get('sets') as Set<unknown>[];
    expect(plain).toEqual(new Set([1, 2]));
    expect(frozen).toBeInstanceOf(FrozenSet);
  });

  it('objects of unknown classes are refused by name, and inert on request', async () => {
    await expect(load(fileOf('inert'))).rejects.toMatchObject({ code: 'ERR_TORCHBIND_CHECKPOINT_GLOBAL' });
    await expect(load(fileOf('inert'))).rejects.toThrow('argparse.Namespace');
    await tidy(async () => {
      const value = (await load(fileOf('inert'), { unknown: 'inert' })) as Map<string, InertObject>;
      const args = value.get('args')!;
      expect([args.module, args.name]).toEqual(['argparse', 'Namespace']);
      expect((args.state as Map<string, unknown>).get('layers')).toEqual([1, 2]);
      expect(value.get('again')).toBe(args);
      expect(value.get('config')!.name).toBe('Config');
      expect([value.get('color')!.called, value.get('color')!.args]).toEqual([true, Tuple.of(1)]);
      expect([...(value.get('bag') as unknown as Map<string, unknown>).keys()]).toEqual(['a', 'b']);
      expect(value.get('row')!.members).toEqual([1, 'two']);
      expect(value.get('class')).toEqual(new GlobalName('__main__', 'Config'));
    });
    await expect(load(fileOf('inert'), { unknown: 'execute' as never })).rejects.toThrow("'refuse' or 'inert'");
  });

  it('names that only an attack has a use for are refused even then', async () => {
    for (const unknown of ['refuse', 'inert'] as const)
      await expect(load(fileOf('system'), { unknown })).rejects.toThrow('posix.system');
  });

  it.each([
    ['numpy_text', "type 'U1'"],
    ['numpy_object', "type 'O8'"],
    ['numpy_struct', "type 'V4'"],
  ])('%s is refused, and the message says what it holds', async (name, text) => {
    await expect(load(fileOf(name))).rejects.toThrow(text);
    const value = (await load(fileOf(name), { unknown: 'inert' })) as Map<string, unknown>;
    expect(value.get('n')).toMatchObject({ module: expect.stringMatching(/^numpy/) as string, name: '_reconstruct' });
  });

  it('a nested tensor is refused always', async () => {
    for (const unknown of ['refuse', 'inert'] as const)
      await expect(load(fileOf('nested'), { unknown })).rejects.toThrow('nested tensor');
  });
});
