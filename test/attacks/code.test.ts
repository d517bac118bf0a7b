/** A: files that want code to run. Nothing is looked up, imported or called; the name that was asked for is in the error. */
import { describe, expect, it } from 'vitest';
import { load } from '../../lib/formats/pt';
import { bytes, checkpoint, legacyFile, op, pickle, tensorOf } from './assemble';
import { attacks } from './refuse';

const { open, refused, file } = attacks();

const byName = /CHECKPOINT_GLOBAL$/;
const asPickle = /CHECKPOINT_(PICKLE|GLOBAL|UNSUPPORTED)$/;

/** In a zip and in the one stream of old. */
async function refusedEverywhere(object: Uint8Array, code: RegExp, message?: RegExp): Promise<void> {
  await refused(checkpoint(pickle(object)), { code, message, record: 'data.pkl' });
  await refused(legacyFile(object), { code, message });
}

it('the case that the others vary is opened', async () => {
  expect(await open(checkpoint(pickle(tensorOf())))).toMatchObject({ shape: [4] });
});

describe('A1 a function called by GLOBAL and REDUCE', () => {
  it.each(['os', 'posix', 'nt', 'subprocess', 'builtins', '__builtin__', 'sys', 'socket', 'webbrowser', 'runpy'])(
    '%s',
    (module) => refusedEverywhere(op.call(module, 'system', op.text('echo')), byName, /system/),
  );
});

describe('A2 STACK_GLOBAL', () => {
  it('with both names on the stack', () =>
    refusedEverywhere(bytes(op.shortText('os'), op.shortText('system'), '\x93'), byName, /os\.system/));

  it('with names out of the memo, in another order', () =>
    refusedEverywhere(
      bytes(op.shortText('system'), '\x940', op.shortText('os'), '\x940', 'h\x01h\x00\x93'),
      byName,
      /os\.system/,
    ));

  it.each([
    ['a number', bytes('K\x01', op.shortText('system'), '\x93')],
    ['None', bytes(op.shortText('os'), 'N\x93')],
    ['bytes', bytes('C\x02os', op.shortText('system'), '\x93')],
    ['a list', bytes(']', op.shortText('system'), '\x93')],
    ['nothing', bytes('\x93')],
  ])('with %s for a name', (_, object) => refusedEverywhere(object, asPickle));

  it('with a dotted name', () =>
    refusedEverywhere(bytes(op.shortText('torch'), op.shortText('os.system'), '\x93'), asPickle, /os\.system/));
});

describe('A3 INST and OBJ', () => {
  it('INST', () => refusedEverywhere(bytes('(', op.text('echo'), 'ios\nsystem\n'), asPickle, /INST|system/));
  it('OBJ', () => refusedEverywhere(bytes('(', op.global('os', 'system'), op.text('echo'), 'o'), byName));
  it('OBJ of a known class', () => refusedEverywhere(bytes('(', op.global('builtins', 'set'), 'o'), asPickle));
  it('OBJ whose result is dropped', () =>
    refusedEverywhere(bytes('(', op.global('builtins', 'set'), 'o0', tensorOf()), asPickle));
});

describe('A4 NEWOBJ_EX, extension codes, PERSID', () => {
  it('NEWOBJ_EX', () => refusedEverywhere(bytes(op.global('os', 'system'), ')}\x92'), byName));
  it('NEWOBJ_EX of a known class', () =>
    refusedEverywhere(bytes(op.global('collections', 'OrderedDict'), ')}\x92'), asPickle));
  it.each([
    ['EXT1', '\x82\x01'],
    ['EXT2', '\x83\x01\x00'],
    ['EXT4', '\x84\x01\x00\x00\x00'],
    ['PERSID', 'Pstorage\n'],
  ])('%s', (name, code) => refusedEverywhere(bytes(code), asPickle, new RegExp(name)));
});

describe('A5 state that sets attributes', () => {
  it.each([
    ['on a dict', bytes('}}b')],
    ['on a tensor', bytes(tensorOf(), '}', op.text('__class__'), op.text('x'), 'sb')],
    ['on a torch.Size', bytes(op.call('torch', 'Size', ')'), '}b')],
    ['through __setstate__', op.call('torch.nn.parameter', 'Parameter.__setstate__', '}')],
    ['with slots', bytes(op.call('collections', 'OrderedDict'), op.tuple('N', '}'), 'b')],
    ['of a list', bytes(op.call('collections', 'OrderedDict'), ']b')],
  ])('%s', (_, object) => refusedEverywhere(object, asPickle));

  it('names of JavaScript objects are plain names', async () => {
    const state = bytes('}', op.text('__proto__'), '}', op.text('polluted'), '\x88s', 's');
    const value = await open(checkpoint(pickle('}', op.text('__proto__'), state, 's'))).then(
      (map) => map as Map<string, unknown>,
    );
    expect(value).toBeInstanceOf(Map);
    expect([...value.keys()]).toEqual(['__proto__']);
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
    const attributes = bytes(op.call('collections', 'OrderedDict'), '}', op.text('__proto__'), state, 'sb');
    const dict = await open(checkpoint(pickle(attributes))).catch((error: unknown) => error);
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
    expect(Object.getPrototypeOf(dict)).not.toHaveProperty('polluted');
  });
});

describe('A6 indirection', () => {
  it.each([
    ['functools', 'partial'],
    ['operator', 'attrgetter'],
    ['operator', 'methodcaller'],
    ['builtins', 'getattr'],
    ['__builtin__', 'apply'],
    ['pkgutil', 'resolve_name'],
    ['pydoc', 'locate'],
    ['types', 'CodeType'],
    ['types', 'FunctionType'],
    ['importlib', 'import_module'],
    ['cloudpickle.cloudpickle', '_make_function'],
    ['numpy.f2py.crackfortran', 'getlincoef'],
    ['torch.jit.unsupported_tensor_ops', 'execWrapper'],
    ['torch.utils.collect_env', 'run'],
    ['torch._inductor.codecache', 'compile_file'],
    ['torch.hub', 'load'],
    ['torch.distributed.rpc', 'RRef'],
    ['torch.ops', 'load_library'],
    ['torch.utils._config_module', 'load_config'],
    ['timeit', 'timeit'],
    ['asyncio', 'create_subprocess_shell'],
    ['bdb', 'Bdb'],
    ['ctypes', 'CDLL'],
    ['idlelib.run', 'Executive'],
    ['pip', 'main'],
    ['ensurepip', '_run_pip'],
    ['shutil', 'rmtree'],
    ['lib2to3.pgen2.grammar', 'Grammar.loads'],
  ])('%s.%s', (module, name) => refusedEverywhere(op.call(module, name, op.text('x')), byName));
});

describe('A7 a pickle in a pickle', () => {
  it.each([
    ['pickle', 'loads'],
    ['_pickle', 'loads'],
    ['marshal', 'loads'],
    ['dill', 'loads'],
    ['joblib', 'load'],
    ['torch.storage', '_load_from_bytes'],
    ['torch', 'load'],
    ['torch.serialization', 'load'],
  ])('%s.%s', (module, name) => refusedEverywhere(op.call(module, name, bytes('U\x02N.')), byName, new RegExp(name)));
});

describe('A8 the payload first, and a stream that breaks later', () => {
  it.each([
    ['no end', bytes(op.proto(2), op.call('os', 'system', op.text('echo')))],
    ['an opcode that is none', bytes(op.proto(2), op.call('os', 'system', op.text('echo')), '\xff.')],
    ['an underflow', bytes(op.proto(2), op.call('os', 'system', op.text('echo')), '000.')],
  ])('%s', async (_, stream) => {
    await refused(checkpoint(stream), { code: byName });
  });

  it('nothing is made of what comes before the break', async () => {
    await refused(checkpoint(bytes(op.proto(2), tensorOf(), '\xff.')), { code: asPickle });
  });
});

describe('A9 more than the pickle', () => {
  it('a second pickle in the record', () =>
    refused(checkpoint(bytes(pickle('N'), pickle('N'))), { message: /follow/ }));
  it('bytes after STOP', () => refused(checkpoint(bytes(pickle('N'), 'x')), { message: /1 bytes follow/ }));
  it('bytes after the last storage of the stream are not looked at, as in Python', async () => {
    expect(await open(legacyFile('N', ']', op.call('os', 'system', op.text('echo'))))).toBeNull();
  });
});

describe('A10 frames that lie', () => {
  const frame = (length: bigint): Uint8Array => bytes('\x95', Buffer.from(BigUint64Array.of(length).buffer));
  it.each([
    ['longer than the stream', bytes(op.proto(4), frame(100n), 'N.')],
    ['longer than 2^63', bytes(op.proto(4), frame(2n ** 63n), 'N.')],
    ['that ends inside an opcode', bytes(op.proto(4), frame(2n), op.shortText('abc'), '.')],
    ['inside a frame', bytes(op.proto(4), frame(11n), frame(1n), 'N.')],
  ])('%s', async (_, stream) => {
    await refused(checkpoint(stream), { code: /CHECKPOINT_(PICKLE|TRUNCATED)$/ });
  });
});

describe('A11 containers that hold programs', () => {
  it.each([
    ['TorchScript', { 'code/__torch__.py': 'pass', 'constants.pkl': ').' }, /TorchScript/],
    ['.ptl', { 'bytecode.pkl': 'N.' }, /program/],
    ['.pt2', { archive_format: 'pt2' }, /torch\.export/],
    ['torch.package', { '.data/extern_modules': '' }, /torch\.package/],
  ])('%s', async (_, records, message) => {
    await refused(checkpoint(pickle('N'), records), { code: /CHECKPOINT_FORMAT$/, message });
  });
});

it('A12 there is no unsafe mode', async () => {
  await open(checkpoint(pickle('N')));
  for (const option of ['weightsOnly', 'weights_only', 'unsafe', 'allowPickle', 'pickleModule'])
    await expect(load(file, { [option]: false } as object)).rejects.toThrow('unknown option');
});
