/** Values and files that torch.load opens and few programs write; files of other programs; and what inspect says of both. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { TensorChecker } from '../../lib/formats/pt/archive';
import { inspectFile } from '../../lib/formats/inspect/file';
import type { FileInspection } from '../../lib/formats/inspect/report';
import { load, save } from '../../lib/formats/pt';
import { torchGlobals } from '../../lib/formats/pt/torch-globals';
import { loadSafetensors, saveSafetensors } from '../../lib/formats/safetensors';
import { readPickle } from '../../lib/pickle/reader';
import { DictSubclass, GlobalName, InertObject, OrderedDict, TorchConstant, Tuple } from '../../lib/pickle/types';
import { judgeName } from '../../lib/pickle/verdicts';
import { arange } from '../../lib/tensor/creation';
import { ops } from '../../lib/tensor/ops';
import { tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { bytes, checkpoint, op, pickle, tensorOf } from '../attacks/assemble';
import { pythonJson, pythonTimeout } from '../helpers/python';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const script = path.join(__dirname, 'others.py');
const directory = sharedTemporaryDirectory();
const at = (name: string): string => path.join(directory, name);
const fileOf = (name: string): string => at(`${name}.pt`);

const plain = ['layouts', 'storages', 'lightning', 'subclass'];
const inert = ['numpy_text', 'numpy_object', 'numpy_date', 'numpy_record'];

/** Dicts with equal keys, as no dict of Python's can be pickled. */
const dicts: Record<string, string> = {
  'True, then 1': '}(K\x01K\x02\x88K\x03u.',
  '1, then True': '}(\x88K\x02K\x01K\x03u.',
  'False, 0 and 0.0': '}(\x89K\x01K\x00K\x02G\x00\x00\x00\x00\x00\x00\x00\x00K\x03u.',
  '2**60 and its float': '}(\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x10K\x01G\x43\xb0\x00\x00\x00\x00\x00\x00K\x02u.',
  'its float, then 2**60': '}(G\x43\xb0\x00\x00\x00\x00\x00\x00K\x01\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x10K\x02u.',
  '2**60 + 1 and the float of 2**60':
    '}(\x8a\x08\x01\x00\x00\x00\x00\x00\x00\x10K\x01G\x43\xb0\x00\x00\x00\x00\x00\x00K\x02u.',
  'equal tuples': '}(K\x01X\x01\x00\x00\x00a\x86K\x01\x88X\x01\x00\x00\x00a\x86K\x02u.',
  'equal tuples in tuples, in two batches':
    '}(K\x01K\x02\x86N\x86K\x01u(K\x01K\x02\x86N\x86K\x02K\x01K\x03\x86N\x86K\x03u.',
  'equal bytes': '}(C\x01aK\x01C\x01aK\x02C\x01bK\x03u.',
  'text, bytes and numbers that look alike':
    '}(X\x01\x00\x00\x001K\x01C\x011K\x02K\x01K\x03K\x01\x85K\x04X\x01\x00\x00\x001\x85K\x05u.',
};

let pythonPairs: Record<string, [string, string][]>;
let checked: Record<string, boolean>;

beforeAll(async () => {
  const texts = Object.values(dicts).map((text) => `\x80\x03${text}`);
  const pairs = await pythonJson<[string, string][][]>(script, ['make', directory], JSON.stringify(texts));
  pythonPairs = Object.fromEntries(Object.keys(dicts).map((name, i) => [name, pairs[i]!]));
  for (const name of [...plain, ...inert]) {
    await tidy(async () => {
      const unknown = inert.includes(name) ? 'inert' : 'refuse';
      await save(await load(fileOf(name), { exact: true, unknown }), fileOf(`again_${name}`));
    });
  }
  checked = await pythonJson(script, ['check', directory]);
}, pythonTimeout);

const get = (value: unknown, ...keys: unknown[]): unknown =>
  keys.reduce((map, key) => (map as Map<unknown, unknown>).get(key), value);
const listOf = (tensor: unknown): unknown => (tensor as Tensor).tolist();

/** As Python's repr. */
function repr(value: unknown): string {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'string') return `'${value}'`;
  if (value instanceof Tuple) return `(${value.map(repr).join(', ')}${value.length === 1 ? ',' : ''})`;
  if (value instanceof Uint8Array) return `b'${Buffer.from(value).toString('latin1')}'`;
  return value === 2 ** 60 ? '1.152921504606847e+18' : String(value);
}

describe('keys that are equal in Python are one key', () => {
  it.each(Object.keys(dicts))('%s', (name) => {
    const { value } = readPickle(Buffer.from(`\x80\x03${dicts[name]!}`, 'latin1'), {
      globals: torchGlobals(new TensorChecker(false)),
      persistentLoad: (id) => id,
    });
    const pairs = [...(value as Map<unknown, unknown>)].map(([key, item]) => [repr(key), repr(item)]);
    expect(pairs).toEqual(pythonPairs[name]);
  });

  it('members of sets too', async () => {
    const set = bytes('\x8f(K\x01\x88K\x01\x85\x88\x85C\x01aC\x01a\x90');
    writeFileSync(at('set.pt'), checkpoint(pickle(set)));
    expect([...((await load(at('set.pt'))) as Set<unknown>)].map(repr)).toEqual(['1', '(1,)', "b'a'"]);
  });
});

it('a tensor that is wrapped twice as a parameter is two, over one memory', async () => {
  const wrap = (data: Uint8Array): Uint8Array =>
    op.call('torch._utils', '_rebuild_parameter', data, '\x88', op.call('collections', 'OrderedDict'));
  const data = bytes(tensorOf(), 'q\x63');
  writeFileSync(at('twice.pt'), checkpoint(pickle(']', '(', wrap(data), wrap(bytes('h\x63')), 'h\x63', 'e')));
  const [first, second, plainTensor] = (await load(at('twice.pt'))) as [Tensor, Tensor, Tensor];
  expect(first === second).toBe(false);
  expect([first.requiresGrad, second.requiresGrad, plainTensor.requiresGrad]).toEqual([true, true, false]);
  plainTensor.fill_(7);
  expect([listOf(first), listOf(second)]).toEqual([listOf(plainTensor), listOf(plainTensor)]);
});

describe('values that load gives, and save writes back as they were', () => {
  it.each([...plain, ...inert])('%s', (name) => {
    expect(checked[name]).toBe(true);
  });

  it('layouts and ways to quantize', async () => {
    const value = await load(fileOf('layouts'));
    expect(String(get(value, 'layouts'))).toBe(
      'torch.strided,torch.sparse_coo,torch.sparse_csc,torch._mkldnn,torch.jagged',
    );
    expect(get(value, 'schemes')).toContainEqual(new TorchConstant('qscheme', 'per_tensor_affine'));
    expect(get(value, 'class')).toEqual(new GlobalName('collections', 'OrderedDict'));
  });

  it('bare storages are tensors over all of their elements, and share them', async () => {
    const value = await load(fileOf('storages'));
    expect(get(value, 'untyped')).toMatchObject({ dtype: 'uint8', shape: [24] });
    expect(listOf(get(value, 'typed'))).toEqual([0, 1, 2, 3]);
    (get(value, 'typed') as Tensor).fill_(5);
    expect(listOf(get(value, 'view'))).toEqual([5, 5, 5]);
    const report = await inspectFile(fileOf('storages'));
    expect(report.problems).toEqual([]);
    expect(report.tensors.map(({ name, kind }) => [name, kind])).toEqual([
      ['untyped', 'storage'],
      ['typed', 'storage'],
      ['view', 'tensor'],
      ['w', 'tensor'],
    ]);
  });

  it('instances of subclasses of dict are dicts, with a note', async () => {
    const hyper = get(await load(fileOf('lightning')), 'hyper_parameters') as DictSubclass;
    expect(hyper).toBeInstanceOf(Map);
    expect([...hyper.keys()]).toEqual(['lr', 'layers', 'nested', 'empty', 'again']);
    expect(hyper.get('empty')).toBe(hyper.get('again'));
    expect(get(hyper, 'nested', 'a')).toEqual(Tuple.of<unknown>(1, null));
    const settings = get(await load(fileOf('subclass')), 'settings') as DictSubclass;
    expect(settings.get('a')).toBe(1);
    expect(settings.state).toEqual(new Map([['frozen', true]]));
    for (const name of ['lightning', 'subclass']) {
      const { problems, container } = await inspectFile(fileOf(name));
      expect(problems).toEqual([]);
      expect(container.notes.join()).toMatch(/a subclass of dict, are read as dicts/);
    }
  });

  it.each<[string, Uint8Array]>([
    ['has no items', op.call('a.b', 'Settings').subarray(0, -1)],
    ['is called', bytes(op.call('a.b', 'Settings'), '(K\x01K\x02u')],
    ['is a value too', bytes(']', '(', op.global('a.b', 'Settings'), 'q\x05', 'h\x05', ')\x81K\x01K\x02s', 'e')],
    ['only an attack has a use for', bytes(op.global('os', 'environ'), ')\x81K\x01K\x02s')],
    ['has members of a list', bytes(op.global('a.b', 'Row'), ')\x81(K\x01e')],
    ['is in itself before it has items', bytes(op.global('a.b', 'Bag'), ')\x81q\x05K\x01h\x05s')],
  ])('but a class is refused by name that %s', async (_, object) => {
    writeFileSync(at('refused.pt'), checkpoint(pickle(object)));
    await expect(load(at('refused.pt'))).rejects.toMatchObject({ code: 'ERR_TORCHBIND_CHECKPOINT_GLOBAL' });
  });

  it("NumPy's text, objects, dates and records need unknown: 'inert', and keep nothing from the tensors beside them", async () => {
    for (const name of [...inert, 'protocol5']) {
      await expect(load(fileOf(name)), name).rejects.toThrow("load(path, { unknown: 'inert' })");
      const value = await load(fileOf(name), { unknown: 'inert' });
      expect(get(value, 'n'), name).toBeInstanceOf(InertObject);
      expect(listOf(get(value, 'w')), name).toEqual([
        [0, 1, 2],
        [3, 4, 5],
      ]);
    }
    const { state } = get(await load(fileOf('numpy_object'), { unknown: 'inert' }), 'n') as InertObject;
    expect((state as Tuple)[4]).toEqual([[1], 'x', null]);
  });

  it('a whole module of the one stream of old is inert data', async () => {
    await expect(load(fileOf('module'))).rejects.toThrow('some_program.config.Weights');
    const value = await load(fileOf('module'), { unknown: 'inert' });
    const { state } = get(value, 'model') as InertObject;
    const linear = get(state, '_modules', 'lin') as InertObject;
    expect(get(linear.state, '_parameters', 'weight')).toBe(get(value, 'w'));
  });
});

it.each(['tail_zip', 'tail_stream'])('%s: bytes after the end are passed over, and inspect says so', async (name) => {
  for (const mmap of [false, true])
    expect(listOf(get(await load(fileOf(name), { mmap }), 'w'))).toEqual([0, 1, 2, 3, 4]);
  const { problems, container } = await inspectFile(fileOf(name));
  expect(problems).toEqual([]);
  expect(container.notes.join()).toContain('1000 bytes follow');
});

describe('files of other programs are named, by load and by inspect alike', () => {
  const torch7 = Buffer.concat([
    Buffer.from([4, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0]),
    Buffer.from('V 1'),
    Buffer.alloc(40),
  ]);
  const made: Record<string, string | Buffer> = {
    'model.onnx': Buffer.from('\x08\x08\x12\x07pytorch\x1a\x052.1.0:\xf0\x01', 'latin1'),
    'model.t7': torch7,
    'page.pt': '<!DOCTYPE html>\n<html><body>404</body></html>',
    'lfs.pt': `version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 548105171\n`,
  };
  it.each<[string, RegExp]>([
    ['array.npy', /NumPy array.*torch\.from_numpy/],
    ['arrays.npz', /NumPy archive/],
    ['agent.zip', /holds "policy\.pth"; unpack it/],
    ['plain0.pkl', /bare pickle of protocol 0/],
    ['plain1.pkl', /bare pickle of protocol/],
    ['plain2.pkl', /bare pickle/],
    ['script.pt', /TorchScript/],
    ['exported.pt2', /torch\.export/],
    ['model.onnx', /ONNX/],
    ['model.t7', /Torch7/],
    ['page.pt', /web page/],
    ['lfs.pt', /git lfs pull/],
  ])('%s', async (name, text) => {
    if (made[name] !== undefined) writeFileSync(at(name), made[name]);
    const error = (await load(at(name)).catch((thrown: unknown) => thrown)) as Error;
    expect(error).toMatchObject({ code: 'ERR_TORCHBIND_CHECKPOINT_FORMAT' });
    expect(error.message).toMatch(text);
    const { problems, globals } = await inspectFile(at(name));
    expect(problems.map(({ message }) => `${at(name)}: ${message}`)).toContain(error.message);
    expect(globals.filter(({ verdict }) => verdict === 'code' || verdict === 'attack-only')).toEqual([]);
  });

  it('where safetensors are expected too', async () => {
    writeFileSync(at('lfs.safetensors'), made['lfs.pt']!);
    await expect(load(at('lfs.safetensors'))).rejects.toThrow('git lfs pull');
    await expect(loadSafetensors(at('lfs.safetensors'))).rejects.toThrow('git lfs pull');
    expect((await inspectFile(at('lfs.safetensors'))).problems[0]!.message).toContain('git lfs pull');
    await expect(loadSafetensors(fileOf('layouts'))).rejects.toThrow('read what torch.save wrote with load()');
  });
});

describe('verdicts on names', () => {
  it.each([
    ['_io', 'FileIO'],
    ['_osx_support', '_read_output'],
    ['_aix_support', '_read_cmd_output'],
    ['_pyrepl.pager', 'pipe_pager'],
    ['torch._dynamo.guards', 'GuardBuilder.get'],
    ['torch.fx.experimental.symbolic_shapes', 'ShapeEnv.evaluate_guards_expression'],
    ['torch.utils.bottleneck.__main__', 'run_cprofile'],
    ['__builtin__', 'eval'],
    ['torch', 'os.system'],
    ['numpy', 'load'],
  ])('%s.%s is for attacks only', async (module, name) => {
    expect(judgeName(module, name)).toMatchObject({ verdict: 'attack-only' });
    writeFileSync(at('attack.pt'), checkpoint(pickle(op.call(module, name, op.text('x')))));
    await expect(load(at('attack.pt'), { unknown: 'inert' })).rejects.toThrow('no place in a checkpoint');
  });

  it.each([
    ['builtins', 'slice', 'inert'],
    ['copy_reg', '_reconstructor', 'inert'],
    ['torch.jit._pickle', 'build_intlist', 'inert'],
    ['torch.distributed.checkpoint.metadata', 'Metadata', 'inert'],
    ['pandas.core.frame', 'DataFrame', 'inert'],
    ['pathlib', 'PosixPath', 'inert'],
    ['functools', 'partial', 'code'],
    ['builtins', 'getattr', 'code'],
    ['cloudpickle.cloudpickle', '_make_function', 'code'],
    ['torch.fx.graph_module', 'reduce_graph_module', 'code'],
  ])('%s.%s is %s', async (module, name, verdict) => {
    expect(judgeName(module, name).verdict).toBe(verdict);
    writeFileSync(at('named.pt'), checkpoint(pickle(op.call(module, name, op.text('x')))));
    await expect(load(at('named.pt'))).rejects.toThrow("{ unknown: 'inert' }");
    expect(await load(at('named.pt'), { unknown: 'inert' })).toMatchObject({ module, name });
  });

  it('come with their reasons, and with what load says', async () => {
    const report = await inspectFile(at('slice.pt'));
    expect(report.globals.filter(({ verdict }) => verdict !== 'known')).toMatchObject([
      { name: 'builtins.slice', verdict: 'inert', reason: 'is a plain value of Python', called: true },
    ]);
    expect(await saidByLoad(at('slice.pt'), report)).toBe(true);
    expect(report.tensors.map(({ name }) => name)).toEqual(['w']);
  });

  it('the pickles of TorchScript and of distributed checkpoints name nothing that runs', async () => {
    for (const name of ['script.pt', 'distributed/.metadata'])
      expect((await inspectFile(at(name))).globals.map(({ verdict }) => verdict)).not.toContain('attack-only');
  });
});

/** Whether the only problem of a report is the error of load. */
async function saidByLoad(file: string, { problems }: FileInspection): Promise<boolean> {
  const error = (await load(file).catch((thrown: unknown) => thrown)) as Error;
  return problems.length === 1 && error.message === `${file}: ${problems[0]!.message}`;
}

it('every file here: inspect finds a problem where load does, and only there', async () => {
  for (const name of [...plain, ...inert, 'protocol5', 'module', 'tail_zip', 'tail_stream']) {
    const report = await inspectFile(fileOf(name));
    const opens = await load(fileOf(name)).then(
      () => true,
      () => false,
    );
    if (opens) expect(report.problems, name).toEqual([]);
    else expect(await saidByLoad(fileOf(name), report), name).toBe(true);
    expect(report.tensors.length, name).toBeGreaterThan(name === 'layouts' ? -1 : 0);
  }
});

it('a dict of settings keeps its order and its class through save', async () => {
  const value = await load(fileOf('subclass'));
  await save(value, at('resaved.pt'));
  expect(readFileSync(at('resaved.pt')).includes('some_program.config')).toBe(true);
  expect(value).not.toBeInstanceOf(OrderedDict);
});

describe('numbers beyond 2^53 - 1 that mean nothing', () => {
  const strided = (shape: number[], strides: unknown[], offset: unknown): Tensor =>
    ops.aten.as_strided(arange(4), shape, strides, offset) as Tensor;
  it.each<[string, () => Tensor]>([
    ['the offset of a tensor without elements', () => strided([0], [1], 2n ** 60n)],
    ['its strides', () => strided([0, 2], [2n ** 60n, 2n ** 61n], 0)],
    ['the stride of a single row', () => strided([1, 4], [2n ** 60n, 1], 0)],
  ])('%s', async (_, make) => {
    const w = make();
    await save(new Map([['w', w]]), at('geometry.pt'));
    const read = get(await load(at('geometry.pt')), 'w') as Tensor;
    expect([read.shape, listOf(read)]).toEqual([w.shape, listOf(w)]);
    await saveSafetensors({ w }, at('geometry.safetensors'));
    expect(listOf((await loadSafetensors(at('geometry.safetensors'))).get('w'))).toEqual(listOf(w));
  });
});
