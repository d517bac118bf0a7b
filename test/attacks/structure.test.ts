/** B: pickles whose structure is the attack: each ends in a typed error, at once, in memory that the file's size bounds. */
import { describe, expect, it } from 'vitest';
import { bytes, checkpoint, op, pickle, tensorOf, uint32, uint64 } from './assemble';
import { attacks } from './refuse';

const { open, refused } = attacks();
const asPickle = /CHECKPOINT_PICKLE$/;
const asPickleOrCut = /CHECKPOINT_(PICKLE|TRUNCATED)$/;

function inPickle(stream: Uint8Array, code = asPickleOrCut, message?: RegExp): Promise<void> {
  return refused(checkpoint(stream), { code, message, record: 'data.pkl' });
}

describe('B1 broken structure', () => {
  it.each([
    ['an empty stream', bytes('')],
    ['no STOP', bytes(op.proto(2), 'N')],
    ['STOP on an empty stack', bytes(op.proto(2), '.')],
    ['two values at STOP', pickle('NN')],
    ['an open MARK at STOP', pickle('(N')],
    ['a MARK that is not there', pickle('Nt')],
    ['a pop below the mark', pickle(']N(a')],
    ['an odd number for SETITEMS', pickle('}(NNNu')],
    ['SETITEM without a dict', pickle('NNs')],
    ['a memo that was never filled', pickle('h\x07')],
    ['REDUCE on an empty stack', pickle('R')],
    ['a persistent id of an empty stack', pickle('Q')],
  ])('%s', (_, stream) => inPickle(stream));
});

describe('B2 deep nesting', () => {
  it.each([
    ['tuples', pickle('N', '\x85'.repeat(1_000_000))],
    ['lists', pickle(']'.repeat(100_000), 'a'.repeat(99_999))],
    ['marks', pickle('('.repeat(100_000))],
    ['dicts', pickle('}N'.repeat(100_000), '}', 's'.repeat(100_000))],
  ])('%s', async (_, stream) => {
    // Either is right: a value that is deep, or a refusal. Neither may exhaust a stack, or take as long as the test may.
    await open(checkpoint(stream)).catch((error: unknown) => expect(error).toMatchObject({ name: 'CheckpointError' }));
  });
});

describe('B3 objects that multiply', () => {
  it('lists of lists by the memo stay shared, so that 2^60 nodes are 60', async () => {
    const twice = (index: number): Uint8Array =>
      bytes('](', 'h', Buffer.of(index), 'h', Buffer.of(index), 'eq', Buffer.of(index + 1), '0');
    const levels = Array.from({ length: 60 }, (_, index) => twice(index));
    let node = await open(checkpoint(pickle(']q\x000', ...levels, 'h\x3c')));
    for (let depth = 0; depth < 60; depth++) {
      const [left, right] = node as unknown[];
      expect(left).toBe(right);
      node = left;
    }
    expect(node).toEqual([]);
  });

  it('as keys they are refused or hashed once', async () => {
    const twice = (index: number): Uint8Array =>
      bytes('h', Buffer.of(index), 'h', Buffer.of(index), '\x86q', Buffer.of(index + 1), '0');
    const levels = Array.from({ length: 60 }, (_, index) => twice(index));
    await open(checkpoint(pickle(')q\x000', ...levels, '}h\x3cNs'))).catch((error: unknown) =>
      expect(error).toMatchObject({ name: 'CheckpointError' }),
    );
  });

  it('DUP', () => inPickle(pickle(']', '2'.repeat(1000)), asPickle));
});

describe('B4 cycles', () => {
  it('a list in itself', async () => {
    const value = (await open(checkpoint(pickle(']q\x00h\x00a')))) as unknown[];
    expect(value[0]).toBe(value);
  });

  it('a dict in itself', async () => {
    const value = (await open(checkpoint(pickle('}q\x00', op.text('me'), 'h\x00s')))) as Map<string, unknown>;
    expect(value.get('me')).toBe(value);
  });

  it('a tensor whose shape holds a list that holds itself', () =>
    inPickle(
      pickle(
        op.call(
          'torch._utils',
          '_rebuild_tensor_v2',
          ']q\x00h\x00a',
          op.int(0),
          op.tuple('h\x00'),
          op.tuple(op.int(1)),
          '\x89',
          '}',
        ),
      ),
      asPickle,
    ));
});

describe('B5 memo indices', () => {
  it.each([
    ['LONG_BINPUT of 2^32 - 1', pickle('Nr\xff\xff\xff\xff')],
    ['LONG_BINGET of 2^32 - 1', pickle('j\xff\xff\xff\xff')],
    ['PUT of a negative index', pickle('Np-1\n')],
    ['PUT of 2^64', pickle('Np18446744073709551616\n')],
    ['PUT of a word', pickle('Npx\n')],
  ])('%s', (_, stream) => inPickle(stream, asPickle));
});

describe('B6 lengths beyond the stream', () => {
  const long = (code: string, length: Uint8Array): Uint8Array => bytes(op.proto(4), code, length, '.');
  it.each([
    ['BINUNICODE', long('X', uint32(0xffffffff))],
    ['BINUNICODE8', long('\x8d', uint64(2n ** 60n))],
    ['BINUNICODE8 of 2^64 - 1', long('\x8d', uint64(-1n))],
    ['BINBYTES', long('B', uint32(0xfffffff0))],
    ['BINBYTES8', long('\x8e', uint64(2n ** 60n))],
    ['BYTEARRAY8', bytes(op.proto(5), '\x96', uint64(2n ** 60n), '.')],
    ['BINSTRING', long('T', uint32(0x7fffffff))],
    ['BINSTRING of a negative length', long('T', uint32(0xffffffff))],
    ['LONG4', long('\x8b', uint32(0x7fffffff))],
    ['LONG4 of a negative length', long('\x8b', uint32(0xffffffff))],
    ['FRAME', long('\x95', uint64(2n ** 60n))],
  ])('%s', async (_, stream) => {
    const before = process.memoryUsage().rss;
    await inPickle(stream, /CHECKPOINT_(PICKLE|TRUNCATED|UNSUPPORTED)$/);
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 2 ** 20);
  });
});

describe('B7 sizes given to known functions', () => {
  const huge = op.int(2n ** 40n);
  it.each([
    ['bytearray', op.call('builtins', 'bytearray', huge)],
    ['bytes', op.call('builtins', 'bytes', huge)],
    ['Tensor', op.call('torch', 'Tensor', huge)],
    ['UntypedStorage', op.call('torch.storage', 'UntypedStorage', huge)],
    ['FloatStorage', op.call('torch', 'FloatStorage', huge)],
    ['Counter', op.call('collections', 'Counter', huge)],
    ['OrderedDict', op.call('collections', 'OrderedDict', huge)],
    ['set', op.call('builtins', 'set', huge)],
    ['_codecs.encode with another codec', op.call('_codecs', 'encode', op.text('x'), op.text('zip_codec'))],
    ['torch.Size', op.call('torch', 'Size', huge)],
    ['torch.device', op.call('torch', 'device', op.text('cpu'), huge)],
  ])('%s', (_, object) => inPickle(pickle(object), /CHECKPOINT_(PICKLE|GLOBAL|UNSUPPORTED)$/));
});

describe('B8 keys', () => {
  it.each([
    ['a list', ']'],
    ['a dict', '}'],
    ['a list in a tuple', ']\x85'],
    ['a tensor', tensorOf()],
    ['a set', op.call('builtins', 'set', ']')],
  ])('%s', (_, key) => inPickle(pickle('}', key, 'Ns'), asPickle));

  it.each([
    ['SETITEM', bytes(tensorOf(), 'NNs')],
    ['SETITEMS', bytes(tensorOf(), '(NNu')],
    ['APPEND', bytes(tensorOf(), 'Na')],
    ['APPENDS', bytes(tensorOf(), '(Ne')],
    ['ADDITEMS', bytes(tensorOf(), '(N\x90')],
  ])('%s on a tensor', (_, object) => inPickle(pickle(object), asPickle));
});

describe('B9 text', () => {
  it.each([
    ['an overlong form', '\xc0\x80'],
    ['a lone continuation', '\x80'],
    ['a cut sequence', '\xe2\x82'],
    ['beyond U+10FFFF', '\xf4\x90\x80\x80'],
  ])('%s', (_, text) => inPickle(pickle('X', uint32(text.length), text), asPickle));

  it('NUL in the key of a record', () => inPickle(pickle(tensorOf({ key: op.text('0\0') })), asPickle));
  it('bytes as the key of a record', () => inPickle(pickle(tensorOf({ key: 'C\x010' })), asPickle));
});

describe('B10 ints of many digits', () => {
  it('stay exact', async () => {
    expect(await open(checkpoint(pickle(op.int(2n ** 2000n))))).toBe(2n ** 2000n);
  });

  it('are no size', () => inPickle(pickle(tensorOf({ numel: 2n ** 2000n })), asPickle));
  it('are no shape', () => inPickle(pickle(tensorOf({ shape: [2n ** 2000n] })), asPickle));
});
