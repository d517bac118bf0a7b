/** The programs in examples/, each as its first lines say. */
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { pythonCode, pythonTimeout, repositoryRoot } from '../helpers/python';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const directory = path.join(sharedTemporaryDirectory(), 'examples');

beforeAll(() => {
  cpSync(path.join(repositoryRoot, 'examples'), directory, { recursive: true });
  mkdirSync(path.join(directory, 'node_modules'));
  symlinkSync(repositoryRoot, path.join(directory, 'node_modules/torchbind'), 'junction');
});

async function example(name: string, args: string[] = []): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [`${name}.mjs`, ...args], { cwd: directory });
  return stdout;
}

test(
  'fine-tune: the text becomes less surprising',
  async () => {
    const text = await example('fine-tune', ['--steps', '8']);
    const [before, after] = [...text.matchAll(/perplexity (?:before|after): +([\d.]+)/g)].map((match) =>
      Number(match[1]),
    );
    expect(after).toBeLessThan(before!);
    expect(text).toMatch(/saved step \d+ in checkpoints\/fine-tuned/);
  },
  pythonTimeout,
);

test(
  'from-scratch: the loss falls, and the model writes',
  async () => {
    const text = await example('from-scratch', ['--steps', '30']);
    const [, first, last] = /loss ([\d.]+) -> ([\d.]+)/.exec(text)!;
    expect(Number(last)).toBeLessThan(Number(first) - 0.5);
    expect(text).toContain('KATE:\n');
  },
  pythonTimeout,
);

test(
  'llama: transformers opens what was fine-tuned',
  async () => {
    const text = await example('llama', ['--steps', '30']);
    const [, before, after] = /perplexity ([\d.]+) -> ([\d.]+)/.exec(text)!;
    expect(Number(after)).toBeLessThan(Number(before));
    const code = `
import sys
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
print(type(model).__name__, model.config.num_key_value_heads)`;
    expect((await pythonCode(code, [path.join(directory, 'checkpoints/llama')])).trim()).toBe('LlamaForCausalLM 2');
  },
  pythonTimeout,
);

test(
  'worker: it writes with the weights of the main thread',
  async () => {
    expect(await example('worker')).toMatch(/KING RICHARD:\n[^]*the worker wrote 74 characters/);
  },
  pythonTimeout,
);

test(
  'resume: a killed run ends with the same bits',
  async () => {
    const text = await example('resume', ['--steps', '14']);
    expect(text).toMatch(/ended by SIGKILL\nkilled: resume at step \d+/);
    const [, equal, all] = /(\d+) of (\d+) tensors are equal/.exec(text)!;
    expect(equal).toBe(all);
  },
  pythonTimeout,
);

test(
  'lora: the merged model writes the same',
  async () => {
    expect(await example('lora', ['--steps', '3'])).toContain('merged writes the same: true');
  },
  pythonTimeout,
);

test(
  'convert: Hugging Face gets the same model',
  async () => {
    expect(await example('convert')).toContain('checkpoints/hugging-face gives the same tokens: true');
  },
  pythonTimeout,
);

test(
  'export: Python opens the package and generates the same tokens',
  async () => {
    const text = await example('export');
    const [before, code] = text.split(/\n\n/) as [string, string];
    expect(before).toContain((await pythonCode(code, [], { cwd: directory })).trim());
  },
  pythonTimeout,
);

test.runIf(process.platform === 'linux')(
  'ranks: two of them, under torchrun',
  async () => {
    const code = `import sys; from torch.distributed.run import main; main(sys.argv[1:])`;
    const launch = ['--no-python', '--standalone', '--nproc-per-node', '2'];
    const text = await pythonCode(code, [...launch, process.execPath, 'ranks.mjs', '--steps', '6'], { cwd: directory });
    expect(text).toMatch(/2 ranks, loss [\d.]+ -> [\d.]+\nall ranks have the same weights: true/);
  },
  pythonTimeout,
);
