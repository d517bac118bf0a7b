import { expect, test } from 'vitest';
import { parsePythonJson, pythonJson } from '../../lib/formats/files/python-json';

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
