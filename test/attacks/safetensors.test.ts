/** E: safetensors files, and the indexes of shards, that lie. What Python's package refuses is refused here too. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { CheckpointError } from '../../lib/errors';
import { loadSafetensors } from '../../lib/formats/safetensors';
import { ones } from '../../lib/tensor/creation';
import { saveSafetensors } from '../../lib/formats/safetensors';
import { pythonJson, pythonTimeout } from '../helpers/python';
import { sharedTemporaryDirectory, temporaryDirectory } from '../helpers/tmp';
import { safetensorsFile as file } from './assemble';
import { attacks } from './refuse';

const { refusedAsSafetensors: refused } = attacks();

const entry = (dtype = 'F32', shape = '[1]', range = '[0,4]'): string =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":${range}}`;
const one = (name = 'a', ...rest: string[]): string => `{"${name}":${entry(...rest)}}`;

const ndim = (count: number): string => `[${Array<number>(count).fill(1).join()}]`;

/** Refused here and by Python. */
const bothRefuse: Record<string, Uint8Array> = {
  'E1 no header': Buffer.alloc(7),
  'E1 an empty header': file(''),
  'E1 a header beyond the file': file(one(), 4, 1000),
  'E1 a header of 2^63 bytes': file(one(), 4, 2n ** 63n),
  'E1 a header of 2^64 - 1 bytes': file(one(), 4, -1n),
  'E1 a header beyond the limit': file(one(), 4, 100_000_001),
  'E2 no JSON': file('hello'),
  'E2 a list': file('[]'),
  'E2 a trailing comma': file(one().replace('}}', '},}'), 4),
  'E2 single quotes': file(one().replaceAll('"', "'"), 4),
  'E2 text behind': file(`${one()}x`, 4),
  'E2 NUL behind': file(`${one()}\0`, 4),
  'E2 a cut header': file(one().slice(0, -1), 4),
  'E2 a byte-order mark': file(`\ufeff${one()}`, 4),
  'E2 no UTF-8': file(Buffer.from(one('\xff'), 'latin1'), 4),
  'E2 an encoded surrogate': file(Buffer.from(one('\xed\xa0\x80'), 'latin1'), 4),
  'E2 half a surrogate pair': file(one('\\ud800'), 4),
  'E2 a wrong escape': file(one('\\x41'), 4),
  'E2 a control character': file(one('a\n'), 4),
  'E3 a field twice': file(one().replace('"shape"', '"dtype":"F32","shape"'), 4),
  'E3 metadata twice': file(`{"__metadata__":{"a":"1"},"__metadata__":{"a":"2"},${one().slice(1)}`, 4),
  'E4 -0': file(one('a', 'F32', '[1]', '[-0,4]'), 4),
  'E4 4.0': file(one('a', 'F32', '[1]', '[0,4.0]'), 4),
  'E4 1e0': file(one('a', 'F32', '[1e0]'), 4),
  'E4 01': file(one('a', 'F32', '[01]'), 4),
  'E4 a negative size': file(one('a', 'F32', '[-1]'), 4),
  'E4 a number as text': file(one('a', 'F32', '["1"]'), 4),
  'E4 true': file(one('a', 'F32', '[true]'), 4),
  'E5 an overlap': file(`{"a":${entry()},"b":${entry('F32', '[1]', '[2,6]')}}`, 6),
  'E5 one range for two': file(`{"a":${entry()},"b":${entry()}}`, 4),
  'E5 a hole at the start': file(one('a', 'F32', '[1]', '[4,8]'), 8),
  'E5 a hole between': file(`{"a":${entry()},"b":${entry('F32', '[1]', '[8,12]')}}`, 12),
  'E5 bytes to spare': file(one(), 5),
  'E5 cut bytes': file(one(), 3),
  'E5 an end before the start': file(one('a', 'F32', '[1]', '[4,0]'), 4),
  'E5 one offset': file(one('a', 'F32', '[1]', '[4]'), 4),
  'E5 three offsets': file(one('a', 'F32', '[1]', '[0,4,8]'), 4),
  'E6 a shape larger than its bytes': file(one('a', 'F32', '[2]'), 4),
  'E6 a shape that wraps at 64 bits': file(one('a', 'F32', '[4611686018427387905]'), 4),
  'E6 a shape whose product wraps': file(one('a', 'F32', '[9007199254740991,9007199254740991]'), 4),
  'E6 an offset that wraps': file(one('a', 'F32', '[1]', '[18446744073709551612,0]'), 4),
  'E7 an unknown dtype': file(one('a', 'F31'), 4),
  'E7 a dtype in lower case': file(one('a', 'f32'), 4),
  'E7 6 bits': file(one('a', 'F6_E2M3', '[4]', '[0,3]'), 3),
  'E7 6 bits of the other kind': file(one('a', 'F6_E3M2', '[4]', '[0,3]'), 3),
  'E7 an odd number of 4 bits': file(one('a', 'F4', '[3]', '[0,2]'), 2),
  'E7 a last dimension of one 4-bit number': file(one('a', 'F4', '[2,1]', '[0,1]'), 1),
  'E8 metadata that is no text': file(`{"__metadata__":{"step":1},${one().slice(1)}`, 4),
  'E8 metadata in metadata': file(`{"__metadata__":{"a":{"b":"c"}},${one().slice(1)}`, 4),
  'E8 a tensor of the name of the metadata': file(one('__metadata__'), 4),
  'E8 a field missing': file('{"a":{"dtype":"F32","shape":[1]}}', 4),
  'E8 null for a tensor': file('{"a":null}'),
};

/** Refused here only, with the reason why Python's leniency is not followed. */
const refusedHere: Record<string, Uint8Array> = {
  'E2 white space before the header (the format begins with a brace)': file(`  ${one()}`, 4),
  'E3 a tensor twice, same range (readers differ in which they take)': file(`{"a":${entry()},"a":${entry()}}`, 4),
  'E3 a tensor twice, another dtype': file(`{"a":${entry('I32')},"a":${entry()}}`, 4),
  'E3 a key of the metadata twice': file(`{"__metadata__":{"a":"1","a":"2"},${one().slice(1)}`, 4),
  'E3 a tensor twice, once by escape': file(`{"a":${entry()},"\\u0061":${entry()}}`, 4),
  'E6 a shape without elements beyond 2^53': file(one('a', 'F32', '[0,9007199254740993]', '[0,0]')),
  'E6 70 dimensions (libtorch knows 64)': file(one('a', 'F32', ndim(70)), 4),
  'E8 an unknown field': file(one().replace('}}', ',"x":1}}'), 4),
  'E8 a list for a tensor': file('{"a":["F32",[1],[0,4]]}', 4),
  'E8 null for the metadata': file(`{"__metadata__":null,${one().slice(1)}`, 4),
};

const accepted: Record<string, [Uint8Array, string[]]> = {
  'E2 white space behind the header': [file(`${one()} \r\n\t`, 4), ['a']],
  'E2 no tensors': [file('{}'), []],
  'E9 __proto__': [file(one('__proto__'), 4), ['__proto__']],
  'E9 constructor': [file(one('constructor'), 4), ['constructor']],
  'E9 NUL in a name, which is a name here and cuts none': [file(one('a\\u0000b'), 4), ['a\0b']],
  'E9 a pair of surrogates': [file(one('\\ud83d\\ude00'), 4), ['😀']],
  'E9 an empty name': [file(one(''), 4), ['']],
};

const directory = sharedTemporaryDirectory();
let python: Record<string, boolean>;

beforeAll(async () => {
  const all = {
    ...bothRefuse,
    ...refusedHere,
    ...Object.fromEntries(Object.entries(accepted).map(([k, [v]]) => [k, v])),
  };
  const paths = Object.values(all).map((content, i) => {
    const at = path.join(directory, `${i}.safetensors`);
    writeFileSync(at, content);
    return at;
  });
  const script = path.join(__dirname, '../formats/safetensors_files.py');
  const verdicts = await pythonJson<boolean[]>(script, ['judge'], JSON.stringify(paths));
  python = Object.fromEntries(Object.keys(all).map((name, i) => [name, verdicts[i]!]));
}, pythonTimeout);

it.each(Object.keys(bothRefuse))('%s', async (name) => {
  expect(python[name]).toBe(false);
  await refused(bothRefuse[name]!);
});

it.each(Object.keys(refusedHere))('%s', async (name) => {
  expect(python[name]).toBe(true);
  await refused(refusedHere[name]!);
});

it.each(Object.keys(accepted))('%s', async (name) => {
  const [content, names] = accepted[name]!;
  expect(python[name]).toBe(true);
  const at = path.join(temporaryDirectory(), 'a.safetensors');
  writeFileSync(at, content);
  for (const mmap of [false, true]) {
    const tensors = await loadSafetensors(at, { mmap });
    expect([...tensors.keys()]).toEqual(names);
    expect(Object.getPrototypeOf({})).not.toHaveProperty('dtype');
  }
});

describe('E10 headers of many entries', () => {
  const entries = (count: number, range: (i: number) => string): string =>
    `{${Array.from({ length: count }, (_, i) => `"${i}":${entry('F32', '[1]', range(i))}`).join()}}`;

  it('200,000 tensors on one range end at the second', async () => {
    await refused(
      file(
        entries(200_000, () => '[0,4]'),
        4,
      ),
      { message: /overlap/ },
    );
  });

  it('100,000 tensors that overlap by a byte', async () => {
    await refused(
      file(
        entries(100_000, (i) => `[${i},${i + 4}]`),
        100_003,
      ),
      { message: /overlap/ },
    );
  });

  it('nests without end', async () => {
    await refused(file(`{"a":${'['.repeat(1_000_000)}`));
    await refused(file(`{"a":{"shape":${'['.repeat(1_000_000)}`));
  });
});

describe('E11 indexes of shards', () => {
  const index = 'model.safetensors.index.json';

  async function refusedIndex(text: string, message?: RegExp): Promise<void> {
    const at = temporaryDirectory();
    mkdirSync(path.join(at, 'sub'));
    await saveSafetensors({ a: ones([1]) }, path.join(at, 'one.safetensors'));
    await saveSafetensors({ a: ones([1]), b: ones([1]) }, path.join(at, 'two.safetensors'));
    writeFileSync(path.join(at, index), text);
    for (const mmap of [false, true]) {
      const error = await loadSafetensors(path.join(at, index), { mmap }).catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(CheckpointError);
      if (message !== undefined) expect((error as Error).message).toMatch(message);
    }
  }

  it.each([
    '../one.safetensors',
    '/etc/passwd',
    'sub/one.safetensors',
    '..',
    '.',
    '',
    'C:one.safetensors',
    'sub\\\\one.safetensors',
    'one\\u0000.safetensors',
  ])('a path that leads elsewhere: %j', (name) => refusedIndex(`{"weight_map":{"a":"${name}"}}`, /plain name/));

  it.each<[string, string, RegExp]>([
    ['a shard that is not there', '{"weight_map":{"a":"none.safetensors"}}', /no such file/],
    ['itself', `{"weight_map":{"a":"${index}"}}`, /expected a safetensors file/],
    ['a directory', '{"weight_map":{"a":"sub"}}', /directory/],
    ['a tensor that is not there', '{"weight_map":{"z":"one.safetensors"}}', /promises "z"/],
    ['a tensor in two shards', '{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}', /another file/],
    ['a name twice', '{"weight_map":{"a":"one.safetensors","a":"two.safetensors"}}', /twice/],
    ['two maps', '{"weight_map":{},"weight_map":{"a":"one.safetensors"}}', /twice/],
    ['no map', '{"metadata":{"total_size":4}}', /weight_map/],
    ['a map of numbers', '{"weight_map":{"a":1}}', /expected/],
    ['a list', '{"weight_map":["a"]}', /expected/],
    ['metadata that nests without end', `{"metadata":${'['.repeat(100_000)}`, /deeper/],
    ['text behind', '{"weight_map":{}}x', /follows/],
  ])('%s', (_, text, message) => refusedIndex(text, message));
});
