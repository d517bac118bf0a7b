/** `torchbind evaluate`: the numbers of `gpt.evaluate`. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { GPT } from '../../lib/gpt';
import { manualSeed } from '../../lib/tensor/random';
import { CharTokenizer } from '../../lib/tokenizers';
import { sharedTemporaryDirectory } from '../helpers/tmp';
import { commandIn, environment, program } from './command';

const text = 'the quick brown fox jumps over the lazy dog. été\n'.repeat(6);
const cwd = sharedTemporaryDirectory();
const run = commandIn(cwd);
let gpt: GPT;

beforeAll(async () => {
  manualSeed(1);
  const tokenizer = CharTokenizer.fromText(text);
  const config = { vocabSize: tokenizer.vocabSize, blockSize: 16, nLayer: 1, nHead: 2, nEmbd: 16, dropout: 0.2 };
  gpt = new GPT(config, { tokenizer });
  await gpt.save(path.join(cwd, 'checkpoints/tiny'));
  writeFileSync(path.join(cwd, 'held-out.txt'), text);
  writeFileSync(path.join(cwd, 'held-out.bin'), Uint16Array.from(tokenizer.encode(text)));
});

afterAll(() => gpt.dispose());

it('prints what gpt.evaluate gives, with its windows, stride and batch size', async () => {
  const flags = ['--window-size', '12', '--stride', '5', '--batch-size', '3', '--json'];
  const { status, stdout, stderr } = run(['evaluate', 'tiny', '--input-file', 'held-out.txt', ...flags]);
  expect([status, stderr]).toEqual([0, '']);
  const printed = JSON.parse(stdout) as Record<string, number>;
  const own = await gpt.evaluate(text, { windowSize: 12, stride: 5, batchSize: 3 });
  expect(printed).toMatchObject({ step: gpt.step, data: 'held-out.txt', tokens: text.length - 1 });
  for (const name of ['loss', 'perplexity', 'bitsPerByte'] as const) expect(printed[name]).toBeCloseTo(own[name]!, 5);
  // The windows matter.
  expect((await gpt.evaluate(text)).loss).not.toBeCloseTo(own.loss, 5);
});

it('reads token ids from a .bin file, and text from stdin', async () => {
  const { loss, perplexity } = await gpt.evaluate(text);
  const line = `loss ${loss.toFixed(4)}, perplexity ${perplexity.toFixed(3)}`;
  const ofTokens = run(['evaluate', 'tiny', '--input-file', 'held-out.bin']);
  expect([ofTokens.status, ofTokens.stdout]).toEqual([0, `${line} (${text.length - 1} tokens)\n`]);
  const options = { cwd, env: environment({}), encoding: 'utf8', input: text } as const;
  const ofText = spawnSync(process.execPath, [program, 'evaluate', 'tiny', '--input-file', '-'], options);
  expect([ofText.status, ofText.stdout.startsWith(`${line}, `)]).toEqual([0, true]);
  expect(ofText.stdout).toContain('bits for each byte');
});
