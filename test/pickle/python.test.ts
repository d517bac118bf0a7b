/** Pickles of Python's own making, of every protocol, and ours read by Python. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { TensorChecker } from '../../lib/formats/pt/archive';
import { torchGlobals } from '../../lib/formats/pt/torch-globals';
import { reduceTorchValue } from '../../lib/formats/pt/saved-values';
import { readPickle } from '../../lib/pickle/reader';
import {
  ByteArray,
  ComplexValue,
  Counter,
  Device,
  DTypeValue,
  Float,
  OrderedDict,
  Size,
  Tuple,
} from '../../lib/pickle/types';
import { writePickle } from '../../lib/pickle/writer';
import { pythonJson, pythonTimeout } from '../helpers/python';

const script = path.join(__dirname, 'samples.py');

function ordered(): OrderedDict {
  const value = new OrderedDict<unknown, unknown>([
    ['b', 1],
    ['a', 2],
  ]);
  value.attributes.set('_metadata', new OrderedDict([['', new Map([['version', 1]])]]));
  return value;
}

/** What samples.py makes, as JavaScript has it with `exact`. */
function samples(): Record<string, unknown> {
  const shared = ['x'];
  const cycle: unknown[] = [1];
  cycle.push(cycle);
  let deep: unknown[] = [];
  for (let i = 0; i < 5000; i++) deep = [deep];
  const bytes = Uint8Array.from({ length: 512 }, (_, i) => i);
  return {
    none: null,
    bools: [true, false],
    ints: [
      ...[0, 1, 255, 256, 65535, 65536, -1, 2 ** 31 - 1, 2 ** 31, -(2 ** 31), -(2 ** 31) - 1, 2 ** 53 - 1],
      ...[2n ** 53n, -(2n ** 53n), 2n ** 63n, 2n ** 70n, -(2n ** 70n)],
    ],
    floats: [0.5, new Float(1), -0, 1e300, 5e-324, Infinity, -Infinity],
    strings: ['', 'a', 'é\n\'"\\', '\u20ac \u{1f600}', '\ud800x', 'x'.repeat(300)],
    bytes: [new Uint8Array(), Uint8Array.of(0x61, 0x62, 0, 0xff), bytes],
    bytearray: ByteArray.of(0, 0xfe),
    tuples: [new Tuple(), Tuple.of(1), Tuple.of(1, 2), Tuple.of(1, 2, 3), Tuple.of(1, 2, 3, 4)],
    dict: new Map<unknown, unknown>([
      ['a', 1],
      [2, 'b'],
      [null, 0],
      [Tuple.of<unknown>(1, 't'), []],
      [Uint8Array.of(0x6b), 1.5],
      [true, 'yes'],
    ]),
    large_dict: new Map(Array.from({ length: 2001 }, (_, i) => [i, String(i)])),
    large_list: Array.from({ length: 3001 }, (_, i) => i),
    set: new Set([7]),
    complex: new ComplexValue(1.5, -2),
    counter: new Counter([
      ['a', 2],
      ['b', 1],
    ]),
    ordered: ordered(),
    shared: [shared, shared, Tuple.of(shared)],
    cycle,
    deep,
    size: Size.of(2, 3),
    dtypes: ['float32', 'bfloat16', 'uint16', 'float8_e4m3fn', 'bool'].map((name) => new DTypeValue(name)),
    devices: [new Device('cpu'), new Device('cuda', 1)],
  };
}

const noTensors = new TensorChecker(false);

function read(bytes: Uint8Array): unknown {
  const { value, end } = readPickle(bytes, {
    globals: torchGlobals(noTensors),
    persistentLoad: () => null,
    exact: true,
  });
  expect(end).toBe(bytes.length);
  return value;
}

function depthOf(value: unknown): number {
  let depth = 0;
  for (let at = value as unknown[]; at.length > 0; at = at[0] as unknown[]) depth++;
  return depth;
}

let pickles: { name: string; protocol: number; hex: string }[];
let verdicts: Record<string, { equal: boolean; identical: boolean | null }>;

beforeAll(async () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'torchbind-pickle-'));
  try {
    const file = path.join(directory, 'written.json');
    const written = Object.entries(samples()).map(([name, value]) => [
      name,
      Buffer.from(writePickle(value, { reduce: reduceTorchValue })).toString('hex'),
    ]);
    writeFileSync(file, JSON.stringify(Object.fromEntries(written)));
    [pickles, verdicts] = await Promise.all([
      pythonJson<typeof pickles>(script),
      pythonJson<typeof verdicts>(script, [file]),
    ]);
  } finally {
    rmSync(directory, { recursive: true });
  }
}, pythonTimeout);

describe('pickles that Python wrote', () => {
  const { cycle, deep, shared, ...plain } = samples();

  it.each([0, 1, 2, 3, 4, 5])('protocol %i gives the same values', (protocol) => {
    const ofProtocol = pickles.filter((pickle) => pickle.protocol === protocol && pickle.name in plain);
    expect(ofProtocol).toHaveLength(Object.keys(plain).length);
    for (const { name, hex } of ofProtocol) {
      expect(read(Buffer.from(hex, 'hex')), name).toStrictEqual(plain[name]);
    }
  });

  it('keeps one object one object, and a cycle a cycle', () => {
    for (const { name, hex } of pickles) {
      const value = read(Buffer.from(hex, 'hex')) as unknown[];
      if (name === 'shared') {
        expect(value[0]).toBe(value[1]);
        expect((value[2] as unknown[])[0]).toBe(value[0]);
        expect(value).toStrictEqual(shared);
      }
      if (name === 'cycle') {
        expect(value).toHaveLength((cycle as unknown[]).length);
        expect(value[1]).toBe(value);
      }
      if (name === 'deep') expect(depthOf(value)).toBe(depthOf(deep));
    }
  });
});

describe('pickles that Python reads', () => {
  it("are accepted by PyTorch's weights-only reader with equal values", () => {
    for (const [name, verdict] of Object.entries(verdicts)) expect(verdict.equal, name).toBe(true);
    expect(Object.keys(verdicts)).toEqual(Object.keys(samples()));
  });

  it("are byte for byte what Python's pickler writes, where torch.load accepts that", () => {
    const different = Object.keys(verdicts).filter((name) => verdicts[name]!.identical === false);
    // b'' is bytes() to Python, which torch.load refuses.
    expect(different).toEqual(['bytes']);
  });
});
