/** safetensors files: of the Python package read here, and files saved here read by it. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { load, save } from '../../lib/formats/pt';
import { loadSafetensors, NamedTensors, saveSafetensors } from '../../lib/formats/safetensors';
import { ops } from '../../lib/tensor/ops';
import { arange, ones, tensor, zeros } from '../../lib/tensor/creation';
import type { Tensor } from '../../lib/tensor/tensor';
import { pythonJson, pythonTimeout } from '../helpers/python';
import { bytesOf } from '../helpers/tensors';
import { sharedTemporaryDirectory, temporaryDirectory } from '../helpers/tmp';

interface Described {
  dtype: string;
  shape: number[];
  bytes: string;
}

type Files = Record<string, Record<string, Described>>;

const script = path.join(__dirname, 'safetensors_files.py');
const directory = sharedTemporaryDirectory();
const fileOf = (name: string): string => path.join(directory, `${name}.safetensors`);
const names = ['dtypes', 'names', 'shapes', 'nothing', 'many', 'large'];

let made: Files;

beforeAll(async () => {
  made = await pythonJson<Files>(script, ['make', directory]);
}, pythonTimeout);

function describeTensors(tensors: Iterable<[string, Tensor]>): Record<string, Described> {
  return Object.fromEntries(
    [...tensors].map(([name, value]) => [
      name,
      { dtype: value.dtype, shape: value.shape, bytes: bytesOf(value).toString('hex') },
    ]),
  );
}

/** Without the prototype's setter, which a tensor of that name would otherwise call. */
function expectTensors(actual: Map<string, Tensor>, expected: Record<string, Described>): void {
  expect(new Set(actual.keys())).toEqual(new Set(Object.keys(expected)));
  for (const [name, value] of actual) expect(describeTensors([[name, value]])[name], name).toEqual(expected[name]);
}

describe.each([{ mmap: false }, { mmap: true }])('loadSafetensors with mmap $mmap', (options) => {
  it.each(names)('reads what Python wrote: %s', async (name) => {
    expectTensors(await loadSafetensors(fileOf(name), options), made[name]!);
  });

  it('gives the metadata', async () => {
    const { metadata } = await loadSafetensors(fileOf('shapes'), options);
    expect([...metadata]).toEqual([['key "x"\n', 'välue\0\x1f']]);
  });

  it('gives tensors memory of their own, and leaves the file as it is', async () => {
    const before = readFileSync(fileOf('large'));
    const tensors = await loadSafetensors(fileOf('large'), options);
    tensors.get('a')!.zero_();
    expect(bytesOf(tensors.get('b')!).toString('hex')).toBe(made.large!.b!.bytes);
    expect(readFileSync(fileOf('large')).equals(before)).toBe(true);
  });

  it('reads tensors that do not lie at multiples of their size', async () => {
    const file = path.join(temporaryDirectory(), 'odd.safetensors');
    const header =
      '{"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"f":{"dtype":"F64","shape":[1],"data_offsets":[1,9]}}';
    const data = Buffer.alloc(9);
    data.writeDoubleLE(Math.PI, 1);
    writeFileSync(file, Buffer.concat([prefix(header), Buffer.from(header), data]));
    expect((await loadSafetensors(file, options)).get('f')!.item()).toBe(Math.PI);
  });
});

function prefix(header: string): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(Buffer.byteLength(header)));
  return bytes;
}

describe('loadSafetensors', () => {
  it('gives tied names back on request', async () => {
    expect([...(await loadSafetensors(fileOf('tied'))).keys()]).toEqual(['head.weight']);
    const tied = await loadSafetensors(fileOf('tied'), { tied: true });
    expect(tied.get('wte.weight')).toBe(tied.get('head.weight'));
  });

  it('stops where its signal says so', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(loadSafetensors(fileOf('large'), { signal })).rejects.toThrow('enough');
  });

  it('names a misspelled option', async () => {
    await expect(loadSafetensors(fileOf('large'), { mmapp: true } as object)).rejects.toThrow("Did you mean 'mmap'");
  });
});

describe('saveSafetensors', () => {
  it.each(names)('writes byte for byte what Python writes: %s', async (name) => {
    const file = path.join(temporaryDirectory(), 'copy.safetensors');
    expect(await saveSafetensors(await loadSafetensors(fileOf(name)), file)).toEqual([file]);
    // One boolean: a diff of bytes helps nobody.
    expect(readFileSync(file).equals(readFileSync(fileOf(name)))).toBe(true);
  });

  it(
    'writes what Python reads: views, shards, tied weights',
    async () => {
      const out = temporaryDirectory();
      const base = arange(24, { dtype: 'float32' }).reshape([4, 6]);
      const big = arange(60_000, { dtype: 'float32' }).reshape([200, 300]);
      const complex = tensor([1, 2]).to('complex64').mul(ops1j());
      const values = {
        transposed: base.transpose(0, 1),
        bigTransposed: big.transpose(0, 1),
        expanded: ones([1, 3]).expand([2, 3]),
        conjugate: ops.aten._conj(complex) as Tensor,
      };
      await saveSafetensors(values, path.join(out, 'views.safetensors'), { metadata: new Map([['format', 'pt']]) });
      const weight = arange(20_000, { dtype: 'float32' });
      await saveSafetensors({ wte: weight, head: weight }, path.join(out, 'drop.safetensors'), { tied: 'drop' });
      await saveSafetensors({ wte: weight, head: weight }, path.join(out, 'copy.safetensors'), { tied: 'copy' });
      const checked = await pythonJson<Record<string, { tensors: Record<string, Described>; metadata: unknown }>>(
        script,
        ['check', out],
      );
      expect(checked.views).toEqual({ tensors: describeTensors(Object.entries(values)), metadata: { format: 'pt' } });
      const whole = describeTensors([['wte', weight]]).wte;
      expect(checked.drop).toEqual({ tensors: { wte: whole }, metadata: { head: 'wte' } });
      expect(checked.copy).toEqual({ tensors: { wte: whole, head: whole }, metadata: null });
      const back = await loadSafetensors(path.join(out, 'drop.safetensors'), { tied: true });
      expect(back.get('head')).toBe(back.get('wte'));
    },
    pythonTimeout,
  );

  it('refuses tensors that share memory, and names them', async () => {
    const file = path.join(temporaryDirectory(), 'shared.safetensors');
    const base = zeros([8]);
    const views = { a: base, b: base.narrow(0, 2, 3), c: zeros([1]) };
    await expect(saveSafetensors(views, file)).rejects.toThrow(/share memory.*"a", "b"\. tied: 'drop'/);
    await expect(saveSafetensors(views, file, { tied: 'drop' })).rejects.toThrow(/different views/);
    expect(readdirSync(path.dirname(file))).toEqual([]);
    const halves = { low: base.narrow(0, 0, 4), high: base.narrow(0, 4, 4) };
    await saveSafetensors(halves, file);
    expect([...(await loadSafetensors(file)).keys()].sort()).toEqual(['high', 'low']);
  });

  it.each<[string, unknown, object, RegExp]>([
    ['what is no tensor', { a: 1 }, {}, /"a".*expected a tensor, got number 1/],
    ['a list', [zeros([1])], {}, /Map or plain object/],
    ['the name of the metadata', { __metadata__: zeros([1]) }, {}, /keeps this name/],
    ['NUL in a name', { 'a\0b': zeros([1]) }, {}, /NUL/],
    ['half a surrogate pair', { '\ud800': zeros([1]) }, {}, /surrogate/],
    ['a dtype of its own', { a: zeros([1]).to('complex128') }, {}, /no dtype for complex128/],
    ['metadata that is no text', { a: zeros([1]) }, { metadata: { step: 1 } }, /metadata must map text to text/],
    ['a size that is none', { a: zeros([1]) }, { maxShardSize: 'big' }, /maxShardSize/],
    ['another mode', { a: zeros([1]) }, { tied: 'keep' }, /tied must be/],
  ])('refuses %s', async (_, values, options, text) => {
    const file = path.join(temporaryDirectory(), 'refused.safetensors');
    await expect(saveSafetensors(values as Record<string, Tensor>, file, options)).rejects.toThrow(text);
    expect(readdirSync(path.dirname(file))).toEqual([]);
  });

  it('reports progress to the last byte, and stops where its signal says so', async () => {
    const file = path.join(temporaryDirectory(), 'progress.safetensors');
    const seen: { bytes: number; totalBytes: number }[] = [];
    const values = { a: zeros([3]), b: zeros([100_000]), c: zeros([5]) };
    await saveSafetensors(values, file, { onProgress: (progress) => seen.push(progress) });
    expect(seen.at(-1)).toEqual({ bytes: 400_032, totalBytes: 400_032 });
    const before = readFileSync(file);
    const controller = new AbortController();
    const saving = saveSafetensors({ b: ones([100_000]) }, file, {
      onProgress: () => controller.abort(new Error('enough')),
      signal: controller.signal,
    });
    await expect(saving).rejects.toThrow('enough');
    expect(readFileSync(file).equals(before)).toBe(true);
    expect(readdirSync(path.dirname(file))).toEqual(['progress.safetensors']);
  });

  it('replaces the file that its own tensors are mapped from', async () => {
    const file = path.join(temporaryDirectory(), 'mapped.safetensors');
    await saveSafetensors({ a: arange(50_000), b: arange(3) }, file);
    const mapped = await loadSafetensors(file, { mmap: true });
    mapped.get('b')!.fill_(9);
    await saveSafetensors(mapped, file);
    const back = await loadSafetensors(file);
    expect(back.get('b')!.tolist()).toEqual([9, 9, 9]);
    expect(bytesOf(back.get('a')!).equals(bytesOf(mapped.get('a')!))).toBe(true);
  });
});

/** The imaginary unit. */
function ops1j(): Tensor {
  return tensor(-1).to('complex64').sqrt();
}

describe('load', () => {
  it('reads safetensors files and indexes of shards too', async () => {
    expectTensors((await load(fileOf('dtypes'))) as NamedTensors, made.dtypes!);
    const out = temporaryDirectory();
    const bin = (name: string): string => path.join(out, name);
    await save({ a: arange(3) }, bin('pytorch_model-00001-of-00002.bin'));
    await save({ b: ones([2]) }, bin('pytorch_model-00002-of-00002.bin'));
    const map = { a: 'pytorch_model-00001-of-00002.bin', b: 'pytorch_model-00002-of-00002.bin' };
    writeFileSync(
      bin('pytorch_model.bin.index.json'),
      JSON.stringify({ metadata: { total_size: 32 }, weight_map: map }),
    );
    for (const name of ['pytorch_model.bin.index.json', 'pytorch_model.bin']) {
      const value = (await load(bin(name))) as NamedTensors;
      expect([...value].map(([key, item]) => [key, item.tolist()])).toEqual([
        ['a', [0, 1, 2]],
        ['b', [1, 1]],
      ]);
    }
  });
});

describe('shards', () => {
  const values = (): Record<string, Tensor> => ({ a: arange(100), b: ones([50]), c: zeros([300]), d: ones([1]) });

  it('are written as Hugging Face names them, and read from the index or the path', async () => {
    const out = temporaryDirectory();
    const file = path.join(out, 'model.safetensors');
    const files = await saveSafetensors(values(), file, { maxShardSize: '1KB', metadata: { format: 'pt' } });
    expect(files.map((name) => path.basename(name))).toEqual([
      'model-00001-of-00003.safetensors',
      'model-00002-of-00003.safetensors',
      'model-00003-of-00003.safetensors',
      'model.safetensors.index.json',
    ]);
    expect(readdirSync(out).sort()).toEqual(files.map((name) => path.basename(name)).sort());
    const index = JSON.parse(readFileSync(files[3]!, 'utf8')) as unknown;
    expect(index).toEqual({
      metadata: { total_size: 100 * 8 + 50 * 4 + 300 * 4 + 4 },
      weight_map: {
        a: 'model-00001-of-00003.safetensors',
        b: 'model-00001-of-00003.safetensors',
        c: 'model-00002-of-00003.safetensors',
        d: 'model-00003-of-00003.safetensors',
      },
    });
    for (const from of [files[3]!, file]) {
      const back = await loadSafetensors(from);
      expect(describeTensors(back)).toEqual(describeTensors(Object.entries(values())));
      expect(back.metadata.get('format')).toBe('pt');
    }
  });

  it('give way to what is saved later under the same path, and the other way round', async () => {
    const out = temporaryDirectory();
    const file = path.join(out, 'model.safetensors');
    const other = path.join(out, 'model-of-another.safetensors');
    writeFileSync(other, '');
    await saveSafetensors(values(), file, { maxShardSize: 1000 });
    await saveSafetensors(values(), file, { maxShardSize: 1200 });
    await saveSafetensors({ a: ones([1]) }, file);
    expect(readdirSync(out).sort()).toEqual(['model-of-another.safetensors', 'model.safetensors']);
    await saveSafetensors(values(), file, { maxShardSize: 1000 });
    expect(readdirSync(out)).not.toContain('model.safetensors');
    expect((await loadSafetensors(file)).size).toBe(4);
  });

  it('are one file where everything fits', async () => {
    const file = path.join(temporaryDirectory(), 'model.safetensors');
    expect(await saveSafetensors(values(), file, { maxShardSize: '5GB' })).toEqual([file]);
    expect(statSync(file).size).toBeGreaterThan(0);
  });

  it('leave the old checkpoint where writing fails', async () => {
    const out = temporaryDirectory();
    const file = path.join(out, 'model.safetensors');
    await saveSafetensors(values(), file, { maxShardSize: 1000 });
    const before = readdirSync(out);
    const controller = new AbortController();
    const saving = saveSafetensors(values(), file, {
      maxShardSize: 1000,
      signal: controller.signal,
      onProgress: ({ bytes }) => bytes > 1500 && controller.abort(new Error('enough')),
    });
    await expect(saving).rejects.toThrow('enough');
    expect(readdirSync(out)).toEqual(before);
    mkdirSync(path.join(out, 'sub'));
    await expect(saveSafetensors(values(), path.join(out, 'sub'))).rejects.toThrow('cannot save');
  });
});

it('what was read is written with its metadata', async () => {
  const file = path.join(temporaryDirectory(), 'again.safetensors');
  const read = await loadSafetensors(fileOf('names'));
  expect(read).toBeInstanceOf(NamedTensors);
  await saveSafetensors(read, file, { metadata: {} });
  expect((await loadSafetensors(file)).metadata.size).toBe(0);
});
