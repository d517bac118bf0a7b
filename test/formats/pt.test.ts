/** `.pt` files of Python PyTorch read here, and files saved here read by Python. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { isParameter } from '../../lib/formats/pt/tensor-marks';
import { CheckpointError } from '../../lib/errors';
import { load, save } from '../../lib/formats/pt';
import { ComplexValue, Device, DTypeValue, Float, OrderedDict, Size, Tuple } from '../../lib/pickle/types';
import { ones, tensor, zeros } from '../../lib/tensor/creation';
import { tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { pythonJson, pythonTimeout } from '../helpers/python';
import { sharedTemporaryDirectory, temporaryDirectory } from '../helpers/tmp';

interface Described {
  dtype: string;
  shape: number[];
  strides: number[];
  offset: number;
  storage: number;
  requires_grad: boolean;
  parameter: boolean;
  bytes: string;
}

interface Made {
  dtypes: Record<string, Described>;
  views: Record<string, Described>;
  module: Record<string, Described>;
  moments: Record<string, Record<string, Described>>;
  parameters: Described[];
}

interface Checked {
  equal: Record<string, boolean>;
  mmap: Record<string, boolean>;
  computed_offsets: Record<string, boolean>;
  crc: Record<string, boolean>;
  aligned: Record<string, boolean>;
  pickles: Record<string, boolean>;
  records: string[];
  views: Record<string, Described>;
  shared: boolean;
  sharing_seen: boolean;
  strict: [string[], string[]];
  metadata: boolean;
}

const script = path.join(__dirname, 'pt_files.py');
const directory = sharedTemporaryDirectory();
const fileOf = (name: string): string => path.join(directory, `${name}.pt`);

const roundTrips = ['dtypes', 'views', 'module', 'optimizer', 'nested', 'parameters', 'small'];

let made: Made;

beforeAll(async () => {
  made = await pythonJson<Made>(script, ['make', directory]);
}, pythonTimeout);

function hex(value: Tensor): string {
  return Buffer.from(value.toTypedArray().buffer).toString('hex');
}

function expectTensor(actual: Tensor | undefined, expected: Described, name: string): void {
  expect(actual!.dtype, name).toBe(expected.dtype);
  expect(actual!.shape, name).toEqual(expected.shape);
  expect(actual!.strides(), name).toEqual(expected.strides);
  expect(actual!.storageOffset(), name).toBe(expected.offset);
  expect(actual!.requiresGrad, name).toBe(expected.requires_grad);
  expect(isParameter(actual!), name).toBe(expected.parameter);
  expect(hex(actual!), name).toBe(expected.bytes);
}

async function loadTensors(name: string, options = {}): Promise<OrderedDict<string, Tensor>> {
  return (await load(fileOf(name), options)) as OrderedDict<string, Tensor>;
}

function expectTensors(actual: Map<string, Tensor>, expected: Record<string, Described>): void {
  expect([...actual.keys()]).toEqual(Object.keys(expected));
  for (const [name, value] of Object.entries(expected)) expectTensor(actual.get(name), value, name);
}

describe.each([{ mmap: false }, { mmap: true }])('load with $mmap', (options) => {
  it('reads every dtype bit for bit', async () => {
    expectTensors(await loadTensors('dtypes', options), made.dtypes);
  });

  it('reads views with their strides and offsets, and lazy conjugates', async () => {
    expectTensors(await loadTensors('views', options), made.views);
  });

  it('lets tensors share the storage that they shared, and not change the file', async () => {
    const views = await loadTensors('views', options);
    views.get('base')!.fill_(42);
    expect(views.get('transposed')!.select(0, 0).tolist()).toEqual([42, 42, 42, 42]);
    expect(hex((await loadTensors('views')).get('base')!)).toBe(made.views.base!.bytes);
  });

  it('reads a state_dict with its metadata', async () => {
    const module = await loadTensors('module', options);
    expectTensors(module, made.module);
    expect(module).toBeInstanceOf(OrderedDict);
    const metadata = module.attributes.get('_metadata') as OrderedDict<string, Map<string, number>>;
    expect([...metadata.keys()]).toEqual(['', '0', '1', '2']);
    expect(metadata.get('1')).toEqual(new Map([['version', 1]]));
  });
});

describe('load', () => {
  it("reads AdamW's state with floats told from ints", async () => {
    const state = (await load(fileOf('optimizer'), { exact: true })) as Map<string, unknown>;
    const moments = state.get('state') as Map<number, Map<string, Tensor>>;
    expect([...moments.keys()].map(String)).toEqual(Object.keys(made.moments));
    for (const [index, names] of moments) expectTensors(names, made.moments[index]!);
    const [group] = state.get('param_groups') as [Map<string, unknown>];
    expect(group.get('lr')).toBe(0.001);
    expect(group.get('betas')).toStrictEqual(Tuple.of(0.9, 0.95));
    expect(group.get('weight_decay')).toBe(1);
    expect(group.get('fused')).toBe(null);
    expect(group.get('amsgrad')).toBe(false);
    expect(group.get('params')).toEqual([0, 1, 2, 3, 4, 5]);
  });

  const nested = (one: unknown, two: unknown): Map<unknown, unknown> =>
    new Map<unknown, unknown>([
      ['list', [1, [two, Tuple.of<unknown>(3, 'four', null)], new Map([['five', new Set([5, 6])]])]],
      ['ints', [2n ** 53n, 2n ** 70n, -(2n ** 70n), -1]],
      ['float', one],
      ['text', '\u20ac\n'],
      ['bytes', Uint8Array.of(0, 255)],
      [7, true],
      [Tuple.of<unknown>(1, 'a'), Size.of(2, 3)],
      ['dtype', new DTypeValue('bfloat16')],
      ['device', new Device('cuda', 1)],
      ['complex', new ComplexValue(1, -2)],
    ]);

  it('reads nested plain values', async () => {
    expect(await load(fileOf('nested'))).toStrictEqual(nested(1, 2));
    expect(await load(fileOf('nested'), { exact: true })).toStrictEqual(nested(new Float(1), new Float(2)));
  });

  it('reads parameters, and tensors with Python attributes', async () => {
    const parameters = (await load(fileOf('parameters'))) as Tensor[];
    expect(parameters).toHaveLength(made.parameters.length);
    parameters.forEach((parameter, i) => expectTensor(parameter, made.parameters[i]!, String(i)));
    expect(((await load(fileOf('tagged'))) as Tensor).tolist()).toEqual([1, 1]);
  });

  it.each([1, 2, 3, 4, 5])('reads pickle protocol %i', async (protocol) => {
    const both = (await load(fileOf(`protocol${protocol}`))) as Map<string, unknown>;
    expectTensors(both.get('module') as Map<string, Tensor>, made.module);
    expect(both.get('nested')).toStrictEqual(nested(1, 2));
  });

  it('turns big-endian files round, mapped or not', async () => {
    const little = await loadTensors('little');
    for (const mmap of [false, true]) {
      const big = await loadTensors('big', { mmap });
      expect([...big].map(([name, value]) => [name, hex(value)])).toEqual(
        [...little].map(([name, value]) => [name, hex(value)]),
      );
    }
  });

  it('reads compressed records and files without checksums', async () => {
    expectTensors(await loadTensors('deflated'), made.module);
    expectTensors(await loadTensors('deflated', { mmap: true }), made.module);
    expect((await loadTensors('no_crc')).get('w')!.tolist()).toEqual([0, 1, 2]);
  });

  it('opens a file beyond 4 GiB, and reads what lies there', async () => {
    // The records beyond 4 GiB were left zero by Python, which wrote the layout and no data.
    const [huge, two, empty, three] = (await load(fileOf('zip64'), { mmap: true })) as [Tensor, Tensor, Tensor, Tensor];
    expect(huge.shape).toEqual([2 ** 30]);
    expect(huge.select(0, 2 ** 30 - 1).item()).toBe(0);
    expect([two, empty, three].map((value) => value.tolist())).toEqual([[0, 0], [], [0, 0, 0]]);
  });

  it('moves a storage to a device once, so that tensors share it there', async () => {
    const here = await loadTensors('views', { device: 'cpu:0' });
    here.get('base')!.fill_(42);
    expect(here.get('transposed')!.select(0, 0).tolist()).toEqual([42, 42, 42, 42]);
    const meta = await loadTensors('views', { device: 'meta' });
    expect([...meta.values()].map((value) => value.device)).toEqual([...meta.keys()].map(() => 'meta'));
    expect(meta.get('transposed')!.strides()).toEqual([1, 6]);
    await expect(loadTensors('views', { device: 'nowhere' })).rejects.toThrow('nowhere');
  });

  it('gives tensors to the scope that it is called in', async () => {
    let inner: Tensor | undefined;
    const kept = await tidy(async () => {
      const views = await loadTensors('views');
      inner = views.get('rows');
      return views.get('base')!;
    });
    expect(inner!.isDisposed).toBe(true);
    expect(hex(kept)).toBe(made.views.base!.bytes);
  });

  it.each([
    ['script', 'FORMAT', 'TorchScript'],
    ['module_object', 'GLOBAL', 'torch.nn.modules.container.Sequential'],
  ])('refuses %s and says why', async (name, code, text) => {
    const error = load(fileOf(name));
    await expect(error).rejects.toMatchObject({ name: 'CheckpointError', code: `ERR_TORCHBIND_CHECKPOINT_${code}` });
    await expect(error).rejects.toThrow(text);
  });

  it('says what a path is when it is no checkpoint', async () => {
    const place = temporaryDirectory();
    const at = (name: string, content: string | Uint8Array): string => {
      writeFileSync(path.join(place, name), content);
      return path.join(place, name);
    };
    const cases: [string, string][] = [
      [path.join(place, 'missing.pt'), 'no such file'],
      [place, 'directory'],
      ['/dev/zero', 'expected a regular file'],
      [at('empty.pt', ''), 'empty'],
      [at('text.pt', 'hello'), 'text file'],
      [at('bare.pkl', Buffer.from('\x80\x04N.', 'latin1')), 'bare pickle'],
      [at('lfs.pt', 'version https://git-lfs.github.com/spec/v1\n'), 'git lfs pull'],
      [at('noise.pt', Uint8Array.of(1, 2, 3)), 'a file of a kind that torchbind does not know'],
    ];
    for (const [file, text] of cases) {
      const error = await load(file).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(CheckpointError);
      const { message, path: named } = error as CheckpointError;
      expect(message).toContain(text);
      expect(named).toBe(file);
      expect(message.split(file), 'the file is named once, at the beginning').toEqual(['', expect.any(String)]);
    }
  });

  it('suggests the option that was meant', async () => {
    await expect(load(fileOf('small'), { mmmap: true } as object)).rejects.toThrow("Did you mean 'mmap'?");
  });
});

describe('save', () => {
  let checked: Checked;

  beforeAll(async () => {
    for (const name of roundTrips) await save(await load(fileOf(name), { exact: true }), fileOf(`again_${name}`));
    checked = await pythonJson<Checked>(script, ['check', directory]);
  }, pythonTimeout);

  it.each(['equal', 'mmap', 'computed_offsets', 'crc', 'aligned'] as const)(
    'writes what Python reads back: %s',
    (verdict) => {
      expect(checked[verdict]).toEqual(Object.fromEntries(roundTrips.map((name) => [name, true]).sort()));
    },
  );

  it('writes the pickle that Python writes, byte for byte, where the storages are whole', () => {
    const identical = Object.keys(checked.pickles).filter((name) => checked.pickles[name]);
    // Not module: equal strings that are two objects in Python are written twice.
    // Not parameters: Python keeps an attribute.
    // Not views: a storage of which only a part is used is cut.
    expect(identical.sort()).toEqual(['dtypes', 'nested', 'optimizer', 'small']);
  });

  it('writes the records of torch.save in its order, in a folder of the name of the file', () => {
    const names = [
      'data.pkl',
      '.format_version',
      '.storage_alignment',
      'byteorder',
      'data/0',
      'version',
      '.data/serialization_id',
    ];
    expect(checked.records).toEqual(names.map((name) => `again_small/${name}`));
  });

  it('lays a file out as Python does to the byte, but for the fingerprint', async () => {
    const copy = path.join(directory, 'copy');
    mkdirSync(copy);
    await save(await load(fileOf('dtypes')), path.join(copy, 'dtypes.pt'));
    const [ours, theirs] = [path.join(copy, 'dtypes.pt'), fileOf('dtypes')].map((file) => readFileSync(file)) as [
      Buffer,
      Buffer,
    ];
    const fingerprint = ours.indexOf('serialization_id');
    const end = ours.indexOf('PK\x01\x02', fingerprint);
    expect(ours.subarray(0, fingerprint).equals(theirs.subarray(0, fingerprint))).toBe(true);
    // Behind it, only its checksum differs: in its descriptor and in its directory entry.
    const different = [...ours.subarray(end).keys()].filter((i) => ours[end + i] !== theirs[end + i]);
    expect(ours.length).toBe(theirs.length);
    expect(different.length).toBeLessThanOrEqual(4);
  });

  it('keeps shared storages shared, with strides and without the bytes that no tensor uses', () => {
    expect(checked.shared && checked.sharing_seen).toBe(true);
    expect(checked.views.transposed!.strides).toEqual([1, 6]);
    for (const [name, view] of Object.entries(made.views)) expect(checked.views[name]!.bytes, name).toBe(view.bytes);
  });

  it('gives Python a state_dict that loads strictly, with its metadata', () => {
    expect(checked.strict).toEqual([[], []]);
    expect(checked.metadata).toBe(true);
  });

  it('writes only the span that views use together', async () => {
    const file = path.join(temporaryDirectory(), 'span.pt');
    const big = zeros([1000, 100]);
    big.select(0, 500).fill_(5);
    big.select(0, 502).fill_(7);
    await save({ five: big.select(0, 500), seven: big.select(0, 502).slice(0, 10, 20) }, file);
    expect(statSync(file).size).toBeLessThan(4096);
    const found = (await load(file)) as Map<string, Tensor>;
    expect(found.get('five')!.tolist()).toEqual(Array(100).fill(5));
    expect(found.get('seven')!.tolist()).toEqual(Array(10).fill(7));
    expect(found.get('five')!.storageOffset()).toBe(0);
    expect(found.get('seven')!.storageOffset()).toBe(210);
  });

  it('writes tensors without elements wherever they lie in a storage', async () => {
    const file = path.join(temporaryDirectory(), 'empty.pt');
    const base = zeros([100]);
    await save([base.slice(0, 40, 50), base.slice(0, 0, 0), base.slice(0, 100, 100)], file);
    const found = (await load(file)) as Tensor[];
    expect(found.map((value) => value.numel())).toEqual([10, 0, 0]);
    await save(base.slice(0, 100, 100), file);
    expect(((await load(file)) as Tensor).numel()).toBe(0);
  });

  it('writes storages of many parts, reports how far it is, and verifies them when read', async () => {
    const file = path.join(temporaryDirectory(), 'large.pt');
    const value = ones([20, 1024, 1024], { dtype: 'int16' }).cumsum(0).to('int16');
    const seen: number[] = [];
    const total = 2 * value.numel();
    await save(value, file, { onProgress: ({ bytes, totalBytes }) => seen.push(bytes / totalBytes) });
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(seen.length).toBe(Math.ceil(total / 2 ** 24));
    expect(seen.at(-1)).toBe(1);
    expect(((await load(file)) as Tensor).equal(value)).toBe(true);
  });

  it('writes tensors that are disposed while it works', async () => {
    const file = path.join(temporaryDirectory(), 'gone.pt');
    const large = ones([1 << 20]);
    const small = ones([3]);
    const saving = save([large, small], file);
    large.dispose();
    small.dispose();
    await saving;
    const [first, second] = (await load(file)) as [Tensor, Tensor];
    expect(first.sum().item()).toBe(1 << 20);
    expect(second.tolist()).toEqual([1, 1, 1]);
  });

  it('may replace the file that its tensors are mapped from', async () => {
    const file = path.join(temporaryDirectory(), 'self.pt');
    await save({ w: ones([1 << 16]) }, file);
    const mapped = (await load(file, { mmap: true })) as Map<string, Tensor>;
    await save({ w: mapped.get('w')!.mul(2), old: mapped.get('w') }, file);
    const found = (await load(file)) as Map<string, Tensor>;
    expect(found.get('w')!.sum().item()).toBe(2 << 16);
    expect(found.get('old')!.sum().item()).toBe(1 << 16);
  });

  it('leaves the old file and nothing else when it is aborted or fails', async () => {
    const place = temporaryDirectory();
    const file = path.join(place, 'kept.pt');
    await save({ v: 1 }, file);
    const before = readFileSync(file);
    const controller = new AbortController();
    const large = ones([16 << 20]);
    const aborted = save(large, file, {
      signal: controller.signal,
      onProgress: () => controller.abort(new Error('enough')),
    });
    await expect(aborted).rejects.toThrow('enough');
    await expect(save({ f: () => 1 }, file)).rejects.toThrow("value['f']");
    expect(readFileSync(file).equals(before)).toBe(true);
    expect(readdirSync(place)).toEqual(['kept.pt']);
  });

  it('says what cannot be saved, and where it is', async () => {
    const file = path.join(temporaryDirectory(), 'never.pt');
    const cycle = new Tuple<unknown>();
    cycle.push([cycle]);
    const base = tensor([1, 2, 3, 4], { dtype: 'int32' });
    const cases: [unknown, string][] = [
      [{ a: [1, undefined] }, "undefined (at value['a'][1])"],
      [new Map([['config', { when: new Date(0) }]]), "Date object (at value['config']['when'])"],
      [{ w: new Float32Array(2) }, 'Float32Array'],
      [new Map([[[1], 2]]), 'a dict key that is array'],
      [cycle, 'contains itself'],
      [2n ** 3000n, 'int of more than 255 bytes'],
      [[base, base.view('float32' as never)], 'one storage as int32 and as float32'],
    ];
    for (const [value, text] of cases) {
      await expect(save(value, file), text).rejects.toMatchObject({
        code: 'ERR_TORCHBIND_UNSUPPORTED_VALUE',
        message: expect.stringContaining(text) as string,
      });
    }
    await expect(save(1, path.join(file, 'x', 'y.pt'))).rejects.toMatchObject({ code: 'ERR_TORCHBIND_SAVE' });
    await expect(save(1, path.dirname(file))).rejects.toThrow('is a directory');
  });
});
