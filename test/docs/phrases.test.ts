/** The phrase book's tables: what Python gives for the left side of a line, torchbind gives for the right side. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import * as torchbind from '../../lib/index';
import { arange, Tensor, tensor, viewAsReal } from '../../lib/index';
import { pythonJson, pythonTimeout, repositoryRoot } from '../helpers/python';

const text = readFileSync(path.join(repositoryRoot, 'docs/tensors.md'), 'utf8');
const phrases = [...text.matchAll(/^\| `([^`]+)` \| `([^`]+)` \|$/gm)].map(([, python, js]) => ({
  python: python!,
  js: js!,
}));

function describeValue(value: unknown): unknown {
  if (value instanceof Tensor) {
    if (value.dtype.startsWith('complex')) return { dtype: value.dtype, values: viewAsReal(value).tolist() };
    return { dtype: value.dtype, shape: value.shape, values: value.tolist() };
  }
  return Array.isArray(value) ? Array.from(value as unknown[], describeValue) : value;
}

test(
  'every phrase gives what its Python gives',
  async () => {
    const expected = await pythonJson<unknown[]>(
      path.join(__dirname, 'phrases.py'),
      [],
      JSON.stringify(phrases.map(({ python }) => python)),
    );
    const x = arange(12, { dtype: 'float32' }).view(3, 4);
    const y = arange(4, { dtype: 'float32' });
    const scope = { ...torchbind, x, y, i: tensor([2, 0]), mask: x.gt(5) };
    // Keywords such as `var` are names of exports, but of no variables.
    const names = Object.keys(scope).filter((name) => !/^(var|default)$/.test(name));
    const values = names.map((name) => scope[name as keyof typeof scope]);
    phrases.forEach(({ python, js }, n) => {
      // eslint-disable-next-line @typescript-eslint/no-implied-eval, @typescript-eslint/no-unsafe-call -- code of our own documents
      const result: unknown = new Function(...names, `return (${js})`)(...values);
      expect([python, js, describeValue(result)]).toEqual([python, js, expected[n]]);
    });
    expect(phrases.length).toBeGreaterThan(100);
  },
  pythonTimeout,
);
