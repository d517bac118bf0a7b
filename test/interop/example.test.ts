/** The Python program of examples/pytorch trains a model from nothing, and Node opens what it saved. */
import path from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { GPT } from '../../lib/index';
import { pythonJson, pythonTimeout } from '../helpers/python';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const directory = sharedTemporaryDirectory();
let python: { trained: string; resumed: string; text: string };

beforeAll(async () => {
  python = await pythonJson(path.join(__dirname, '../fixtures/example_program.py'), [directory]);
}, pythonTimeout);

test('it trains, and continues where its bundle stands', () => {
  expect(python.trained).toMatch(/^5,437 parameters.* from step 0$/m);
  expect(python.resumed).toMatch(/ from step 200$/m);
});

test('Node opens the bundle, biases and odd sizes included, and writes the same greedy text', async () => {
  const gpt = await GPT.load(path.join(directory, 'tiny'));
  expect(gpt.config).toMatchObject({ nEmbd: 12, nHead: 3, nLayer: 2, blockSize: 10, bias: true, vocabSize: 61 });
  const text = await gpt.generate('KATHARINA:', { maxNewTokens: 40, greedy: true });
  expect(text).toBe(python.text.replace(/\n$/, ''));
});
