/** Streams that no pickler wrote: each is refused with a CheckpointError that says where. */
import { describe, expect, it } from 'vitest';
import { TensorChecker } from '../../lib/formats/pt/archive';
import { torchGlobals } from '../../lib/formats/pt/torch-globals';
import { CheckpointError } from '../../lib/errors';
import { readPickle } from '../../lib/pickle/reader';
import { writePickle } from '../../lib/pickle/writer';
import { OrderedDict, Tuple } from '../../lib/pickle/types';

const noTensors = new TensorChecker(false);
const options = { globals: torchGlobals(noTensors), persistentLoad: (id: unknown) => id, record: 'data.pkl' };

/** A pickle from text, where each character is a byte. */
function refusal(stream: string): CheckpointError {
  try {
    readPickle(Buffer.from(stream, 'latin1'), options);
  } catch (error) {
    if (error instanceof CheckpointError) return error;
    throw error;
  }
  throw new Error(`the stream was read: ${JSON.stringify(stream)}`);
}

describe('names that are not on the list', () => {
  const systems: [string, string][] = [
    ['GLOBAL', '\x80\x02cos\nsystem\nX\x04\x00\x00\x00echo\x85R.'],
    ['STACK_GLOBAL', '\x80\x04\x8c\x02os\x8c\x06system\x93.'],
    ['STACK_GLOBAL through the memo', '\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93.'],
  ];

  it.each(systems)('are refused by name when they come by %s', (_, stream) => {
    const error = refusal(stream);
    expect(error.code).toBe('ERR_TORCHBIND_CHECKPOINT_GLOBAL');
    expect(error.message).toContain('"os.system"');
    expect(error.record).toBe('data.pkl');
    expect(error.offset).toBeGreaterThan(0);
  });

  it.each([
    'builtins\neval',
    '__builtin__\neval',
    'functools\npartial',
    'torch.storage\n_load_from_bytes',
    'numpy\nload',
    'nt\nsystem',
  ])('refuses %j', (name) => {
    expect(refusal(`\x80\x02c${name}\n.`).code).toBe('ERR_TORCHBIND_CHECKPOINT_GLOBAL');
  });

  it('says which known thing is not supported', () => {
    const error = refusal('\x80\x02ctorch._utils\n_rebuild_nested_tensor\n.');
    expect(error.code).toBe('ERR_TORCHBIND_CHECKPOINT_UNSUPPORTED');
    expect(error.message).toContain('nested');
  });
});

describe('opcodes that exist to call something', () => {
  it.each([
    ['INST', '(ios\nsystem\n.'],
    ['OBJ', '(cbuiltins\nset\no.'],
    ['NEWOBJ', '\x80\x02cbuiltins\nset\n)\x81.'],
    ['NEWOBJ_EX', '\x80\x04cbuiltins\nset\n)}\x92.'],
    ['EXT1', '\x80\x02\x82\x01.'],
    ['EXT2', '\x80\x02\x83\x01\x00.'],
    ['EXT4', '\x80\x02\x84\x01\x00\x00\x00.'],
    ['PERSID', 'P1\n.'],
    ['DUP', '\x80\x02N2.'],
    ['NEXT_BUFFER', '\x80\x05\x97.'],
    ['0xff', '\x80\x02\xff.'],
  ])('%s is refused by name', (name, stream) => {
    expect(refusal(stream).message).toContain(`opcode ${name} `);
  });

  it('REDUCE calls only what the list holds', () => {
    expect(refusal('\x80\x02X\x02\x00\x00\x00os)R.').message).toContain('not a function');
    expect(refusal('\x80\x02ctorch\nTensor\n)R.').message).toContain('torch.Tensor');
  });

  it.each([
    ['a size that would allocate', '\x80\x02cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.'],
    ['a codec that is not Latin-1', '\x80\x02c_codecs\nencode\nU\x01aU\x03zip\x86R.'],
    ['a set of a set', '\x80\x02cbuiltins\nset\n](\x8fe\x85R.'],
    ['Counter of an int', '\x80\x02ccollections\nCounter\nK\x05\x85R.'],
    ['complex of strings', '\x80\x02cbuiltins\ncomplex\nU\x01aU\x01b\x86R.'],
    ['a device of no kind', '\x80\x02ctorch\ndevice\nU\x03::/\x85R.'],
    ['a negative size', '\x80\x02ctorch\nSize\nJ\xff\xff\xff\xff\x85\x85R.'],
  ])('the arguments of known functions are checked: %s', (_, stream) => {
    expect(refusal(stream).code).toBe('ERR_TORCHBIND_CHECKPOINT_PICKLE');
  });
});

describe('streams that are broken', () => {
  it.each([
    ['nothing', ''],
    ['no STOP', '\x80\x02N'],
    ['STOP with nothing', '.'],
    ['two values at STOP', 'NN.'],
    ['an open MARK at STOP', '(N.'],
    ['a pop below the mark', 'N(a.'],
    ['TUPLE without MARK', 'Nt.'],
    ['TUPLE3 of two', 'NN\x87.'],
    ['a key without a value', '}(Nu.'],
    ['SETITEM on a list', ']NNs.'],
    ['SETITEMS on a tensor-like value', 'N(NNu.'],
    ['APPEND to a tuple', ')Na.'],
    ['APPEND to a torch.Size', '\x80\x02ctorch\nSize\n)\x85RNa.'],
    ['ADDITEMS to a dict', '\x80\x04}(N\x90.'],
    ['BUILD on a dict', '}}b.'],
    ['BUILD with a list', '\x80\x02ccollections\nOrderedDict\n)R]b.'],
    ['BUILD with an int attribute', '\x80\x02ccollections\nOrderedDict\n)R}K\x01Nsb.'],
    ['a list as key', '}]Ns.'],
    ['a dict in a tuple as key', '}}\x85Ns.'],
    ['GET of what was never put', 'h\x05.'],
    ['a memo index beyond the stream', 'Nr\xff\xff\xff\xff.'],
    ['PUT of nothing', 'q\x00.'],
    ['a second PROTO', '\x80\x02\x80\x02N.'],
    ['protocol 6', '\x80\x06N.'],
    ['a string of 4 GB', 'X\xff\xff\xff\xffa.'],
    ['bytes of 2^60', '\x80\x04\x8e\x00\x00\x00\x00\x00\x00\x00\x10a.'],
    ['an int of 2 GB', '\x80\x02\x8b\xff\xff\xff\x7f\x01.'],
    ['a negative length', '\x80\x02\x8b\xff\xff\xff\xff\x01.'],
    ['a frame beyond the end', '\x80\x04\x95\x09\x00\x00\x00\x00\x00\x00\x00N.'],
    ['an opcode across the end of a frame', '\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00X\x01\x00\x00\x00a.'],
    ['a frame in a frame', '\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x95\x00\x00\x00\x00\x00\x00\x00\x00N.'],
    ['a line without end', 'I12'],
    ['an int that is not one', 'I0x10\n.'],
    ['a float that is not one', 'Fnil\n.'],
    ['a float with a property name', 'F__proto__\n.'],
    ['a string without quotes', 'Sabc\n.'],
    ['text that is not UTF-8', 'X\x02\x00\x00\x00\xc3\x28.'],
    ['two halves of a surrogate pair', 'X\x06\x00\x00\x00\xed\xa0\xbd\xed\xb8\x80.'],
    ['an escape beyond Unicode', 'V\\Uffffffff\n.'],
    ['an int of 5,000 digits', `I${'9'.repeat(5000)}\n.`],
  ])('%s', (_, stream) => {
    expect(refusal(stream).code).toMatch(/^ERR_TORCHBIND_CHECKPOINT_(PICKLE|TRUNCATED)$/);
  });

  it('has an int of megabytes', () => {
    expect(refusal(`\x80\x02\x8b\x00\x00\x20\x00${'\x01'.repeat(2 ** 21)}.`).message).toContain('int of 2097152 bytes');
  });

  it('ends at every byte', () => {
    const value = new Map<unknown, unknown>([
      ['weights', Tuple.of<unknown>(1, 2.5, 'x', null, true, 2n ** 70n)],
      [2, new OrderedDict([['a', [Uint8Array.of(1, 2)]]])],
    ]);
    const whole = writePickle(value);
    expect(readPickle(whole, options).value).toStrictEqual(value);
    for (let length = 0; length < whole.length; length++) {
      expect(() => readPickle(whole.subarray(0, length), options), `${length} bytes`).toThrow(CheckpointError);
    }
  });
});

describe('streams made to exhaust', () => {
  it('reads nesting of any depth without recursion', () => {
    const depth = 200_000;
    const stream = Buffer.concat([Buffer.from('N'), Buffer.alloc(depth, 0x85), Buffer.from('.')]);
    let at = readPickle(stream, options).value;
    let seen = 0;
    for (; at instanceof Tuple; at = at[0]) seen++;
    expect(seen).toBe(depth);
  });

  it('shares what doubles at each level instead of expanding it', () => {
    // 60 levels of (x, x): 2^60 leaves if expanded.
    const level = (i: number): string =>
      `h${String.fromCharCode(i)}h${String.fromCharCode(i)}\x86q${String.fromCharCode(i + 1)}0`;
    const levels = Array.from({ length: 60 }, (_, i) => level(i)).join('');
    const { value } = readPickle(Buffer.from(`Nq\x000${levels}h${String.fromCharCode(60)}.`, 'latin1'), options);
    expect((value as Tuple)[0]).toBe((value as Tuple)[1]);
    // The same tuple as a dict key is looked through once a node.
    readPickle(Buffer.from(`Nq\x000${levels}}h${String.fromCharCode(60)}Ns.`, 'latin1'), options);
  });

  it('keeps names of JavaScript object properties as plain keys', () => {
    const { value } = readPickle(Buffer.from('}(U\x09__proto__NU\x0bconstructorK\x01u.', 'latin1'), options);
    expect([...(value as Map<string, unknown>).keys()]).toEqual(['__proto__', 'constructor']);
  });
});
