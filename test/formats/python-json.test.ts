import { expect, test } from 'vitest';
import { plain } from '../../lib/checkpoint/saved-model';
import { jsonBytes } from '../../lib/formats/files/json-bytes';
import { runAtOnce } from '../../lib/workers/slices';
import { parseSettings, parsePythonJson, pythonJson } from '../../lib/formats/files/python-json';
import { Float, Tuple } from '../../lib/pickle/types';

test('the bare words that Python writes are numbers, and text that looks like them stays text', () => {
  const text = '{"a": NaN, "b": [Infinity, -Infinity, 1.5], "NaN": "NaN, Infinity", "q": "\\" NaN \\\\", "c": null}';
  expect(parsePythonJson(text)).toEqual({
    a: NaN,
    b: [Infinity, -Infinity, 1.5],
    NaN: 'NaN, Infinity',
    q: '" NaN \\',
    c: null,
  });
});

test.each(['{"a": nan}', '{"a": -NaN}', '{NaN: 1}', '{"a": NaN', '{"a": "NaN}', '{"a": NaNs}', 'Infinity1'])(
  'refused as by Python: %s',
  (text) => {
    expect(() => parsePythonJson(text)).toThrow(SyntaxError);
  },
);

test('written as Python writes it, and read again', () => {
  const value = { a: NaN, b: { c: [Infinity, -Infinity], d: 'NaN ü' }, e: 1 };
  const text = pythonJson(value);
  expect(text).toBe(
    '{\n  "a": NaN,\n  "b": {\n    "c": [\n      Infinity,\n      -Infinity\n    ],\n    "d": "NaN \\u00fc"\n  },\n  "e": 1\n}',
  );
  expect(parsePythonJson(text)).toEqual(value);
});

test('values that would take far more memory than their text are refused before they are made', () => {
  const many = (item: string, length: number): string => `[${Array.from({ length }, () => item).join()}]`;
  expect(() => parseSettings(many('{}', 2e6))).toThrow(
    expect.objectContaining({ code: 'ERR_TORCHBIND_CHECKPOINT_LIMIT' }),
  );
  expect(() => parseSettings(many('[]', 2e6))).toThrow('to exhaust the memory');
  expect(() => parseSettings(`${'['.repeat(65)}${']'.repeat(65)}`)).toThrow('nests deeper than 64');
  expect(() => parseSettings('{')).toThrow(/^not valid JSON/);
});

test('large vocabularies, merges and logs are honest', () => {
  const words = Array.from({ length: 300_000 }, (_, i) => `t${i}`);
  const vocab = JSON.stringify(Object.fromEntries(words.map((word, i) => [word, i])));
  expect(Object.keys(parseSettings(vocab) as object)).toHaveLength(300_000);
  const merges = JSON.stringify(words.map((word) => [word, 'x']));
  expect(parseSettings(merges)).toHaveLength(300_000);
  const log = JSON.stringify(words.map((_, step) => ({ step, loss: 1 / (step + 1), learning_rate: 3e-4 })));
  expect(parseSettings(log)).toHaveLength(300_000);
});

test('pickled values that JSON of Python holds stay what they are', () => {
  const nested = new Map<string, unknown>([['low', -Infinity], ['list', Tuple.of<unknown>(NaN, new Float(2), 2n ** 60n)]]); // prettier-ignore
  expect(
    plain(
      new Map<string, unknown>([
        ['high', Infinity],
        ['none', null],
        ['nested', nested],
      ]),
    ),
  ).toEqual({
    high: Infinity,
    none: null,
    nested: { low: -Infinity, list: [NaN, 2, String(2n ** 60n)] },
  });
});

test('JSON in slices has the bytes of JSON.stringify', () => {
  const many = Object.fromEntries(Array.from({ length: 2500 }, (_, i) => [i % 2 ? `\u00e9${i}` : String(i), i]));
  const values: unknown[] = [
    { a: [], b: {}, c: undefined, d: [undefined, null, 'x"\ud800\u{1f600}'], ['__proto__']: 1.5 },
    many,
    { ...many, 7: undefined, x: undefined },
    Array.from({ length: 2500 }, (_, i) => [`t${i}`, -i]),
    Object.fromEntries(Array.from({ length: 1500 }, (_, i) => [`k${i}`, undefined])),
    [[{ deep: [many] }], 'text', 3, null, true],
  ];
  for (const value of values)
    expect(runAtOnce(jsonBytes(value)).toString()).toBe(Buffer.from(JSON.stringify(value)).toString());
});
