/** What training writes down next to the bundle: lines, TensorBoard's events, and a page. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { GPT } from '../../lib/gpt/gpt';
import type { FitOptions } from '../../lib';
import { setNumThreads } from '../../lib/tensor/device';
import { dispose } from '../../lib/tensor/scope';
import { CharTokenizer } from '../../lib/tokenizers';
import { pythonCode, pythonTimeout } from '../helpers/python';
import { temporaryDirectory } from '../helpers/tmp';
import { writePage } from '../../lib/train/metrics/page';
import { drawPage } from './small-dom';

const text = 'the quick brown fox jumps over the lazy dog.\n'.repeat(30);

beforeAll(() => setNumThreads(1));

function makeGpt(): GPT {
  const tokenizer = CharTokenizer.fromText(text);
  const config = { vocabSize: tokenizer.vocabSize, blockSize: 16, nLayer: 1, nHead: 2, nEmbd: 16, dropout: 0 };
  const model = new GPT(config, { tokenizer });
  onTestFinished(() => {
    dispose(model.optimizer?.state);
    model.dispose();
  });
  return model;
}

const options: FitOptions = { text, batchSize: 2, maxSteps: 4, evalInterval: 2, evalSteps: 1 };

function lines(directory: string): Record<string, number | string>[] {
  const file = readFileSync(path.join(directory, 'metrics.jsonl'), 'utf8');
  return file
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, number | string>);
}

describe('metrics', () => {
  it('are lines of JSON, one for each update and evaluation', async () => {
    const checkpointDir = path.join(temporaryDirectory(), 'run');
    const { losses } = await makeGpt().fit({ ...options, checkpointDir });
    const written = lines(checkpointDir);
    expect(written.map(({ type, step }) => `${type} ${step}`)).toEqual([
      'eval 0',
      'step 1',
      'step 2',
      'eval 2',
      'step 3',
      'step 4',
      'eval 4',
    ]);
    const steps = written.filter(({ type }) => type === 'step');
    expect(steps.map(({ loss }) => loss)).toEqual(losses);
    for (const line of steps) {
      expect(line).toMatchObject({ learning_rate: 3e-4, tokens_seen: 32 * (line.step as number) });
      for (const key of ['grad_norm', 'tokens_per_second', 'memory', 'time']) expect(line[key]).toBeGreaterThan(0);
    }
  });

  it('go on where a run continues, without the lines that it makes again', async () => {
    const checkpointDir = path.join(temporaryDirectory(), 'run');
    const model = makeGpt();
    await model.fit({ ...options, checkpointDir });
    const file = path.join(checkpointDir, 'metrics.jsonl');
    writeFileSync(file, `${readFileSync(file, 'utf8')}{"type":"step","step":5,"loss":1}\n{"type":"st`);
    await model.fit({ ...options, maxSteps: 2, checkpointDir });
    expect(
      lines(checkpointDir)
        .filter(({ type }) => type === 'step')
        .map(({ step }) => step),
    ).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('are read by TensorBoard', { timeout: pythonTimeout }, async () => {
    const checkpointDir = path.join(temporaryDirectory(), 'run');
    const { losses } = await makeGpt().fit({ ...options, checkpointDir });
    const output = await pythonCode(
      `
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1])
events.Reload()
print(json.dumps({tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}))`,
      [checkpointDir],
    );
    const scalars = JSON.parse(output) as Record<string, [number, number][]>;
    expect(scalars['loss/batch']).toEqual(losses.map((loss, i) => [i + 1, Math.fround(loss)]));
    expect(scalars['loss/validation']!.map(([step]) => step)).toEqual([0, 2, 4]);
    const tags = {
      'loss/batch': 'loss',
      'loss/train': 'train_loss',
      'loss/validation': 'val_loss',
      'optimizer/learning_rate': 'learning_rate',
      'optimizer/grad_norm': 'grad_norm',
      'speed/tokens_per_second': 'tokens_per_second',
      'memory/resident_bytes': 'memory',
    };
    expect(Object.keys(scalars).sort()).toEqual(Object.keys(tags).sort());
    const written = lines(checkpointDir);
    for (const [tag, name] of Object.entries(tags)) {
      const expected = written.flatMap((line) =>
        name in line ? [[line.step, Math.fround(line[name] as number)]] : [],
      );
      expect(scalars[tag], tag).toEqual(expected);
    }
  });

  it('are a page that needs nothing else', async () => {
    const checkpointDir = path.join(temporaryDirectory(), 'run');
    await makeGpt().fit({ ...options, checkpointDir });
    const page = readFileSync(path.join(checkpointDir, 'metrics.html'), 'utf8');
    expect(page).toMatch(
      /<title>run: training<\/title>[\s\S]*<h1>run<\/h1>\n<p>step 4 · 128 tokens · validation loss \d\.\d{4} · /,
    );
    expect(page).not.toMatch(/(src|href)=/);
    const charts = JSON.parse(/const charts = (.*);/.exec(page)![1]!) as { data: number[][] }[];
    expect(charts).toHaveLength(5);
    expect(charts[0]!.data[0]).toEqual([0, 1, 2, 3, 4]);
  });

  it('are drawn by the page: a curve of every series, through every point', async () => {
    const checkpointDir = path.join(temporaryDirectory(), 'run');
    await makeGpt().fit({ ...options, maxSteps: 30, evalInterval: 5, checkpointDir });
    const { figures, paths } = await drawPage(readFileSync(path.join(checkpointDir, 'metrics.html'), 'utf8'));
    expect(figures.map(({ caption }) => caption)).toEqual([
      'Loss (nats per token)',
      'Learning rate',
      'Gradient norm before clipping',
      'Tokens per second',
      'Resident memory (GB)',
    ]);
    // Of each series a line and its markers. The batch's loss, learning rate, norm, speed and memory at 30 steps, points in
    // one column of pixels left out; two evaluated losses at 7.
    expect(paths.filter((points) => points >= 25)).toHaveLength(2 * 5);
    expect(paths.filter((points) => points === 7)).toHaveLength(2 * 2);
    for (const { texts } of figures) expect(texts).toEqual(expect.arrayContaining(['0', '10', '20', '30', 'step']));
    expect(figures[1]!.texts).toEqual(expect.arrayContaining(['0', '1e-4', '2e-4', '3e-4'])); // a rate of 3e-4
  });

  it.each([
    { rate: 3e-4, speed: 1155, labels: ['0 5e-5 1e-4 1.5e-4 2e-4 2.5e-4 3e-4', '0 250 500 750 1,000'] },
    { rate: 2.5e-5, speed: 7, labels: ['0 5e-6 1e-5 1.5e-5 2e-5 2.5e-5', '0 2 4 6'] },
    { rate: 0.05, speed: 184_000, labels: ['0 0.01 0.02 0.03 0.04 0.05', '0 50k 100k 150k'] },
    { rate: 1, speed: 12.4e6, labels: ['0 0.2 0.4 0.6 0.8 1.0', '0 2.5M 5.0M 7.5M 10.0M 12.5M'] },
    { rate: 4e-10, speed: 3.2e9, labels: ['0 5e-11 1e-10 1.5e-10 2e-10 2.5e-10 3e-10 3.5e-10 4e-10', '0 1B 2B 3B'] },
  ])('have axes whose labels tell numbers apart: a rate of $rate, $speed tokens/s', async ({ rate, speed, labels }) => {
    const file = path.join(temporaryDirectory(), 'metrics.html');
    const values = { learning_rate: rate, tokens_per_second: speed };
    const lines = [1, 2, 3].map((step) => ({ type: 'step' as const, step, time: 0, ...values }));
    writePage(file, 'a <model> & more', lines);
    const html = readFileSync(file, 'utf8');
    expect(html).toContain('<h1>a &lt;model&gt; &amp; more</h1>');
    const { figures } = await drawPage(html);
    expect(figures.map(({ texts }) => texts.join(' '))).toEqual(labels.map((ticks) => `step 1 2 3 ${ticks}`));
  });

  it('keep their spikes in a page that shows fewer points than there are', () => {
    const file = path.join(temporaryDirectory(), 'metrics.html');
    const steps = Array.from({ length: 50_000 }, (_, i) => i + 1);
    const lossAt = (step: number): number => (step === 31_234 ? 90 : step === 7_777 ? 0.5 : 3 + (step % 7) / 10);
    writePage(
      file,
      'run',
      steps.map((step) => ({ type: 'step', step, time: 0, loss: lossAt(step) })),
    );
    const [, json] = /const charts = (.*);/.exec(readFileSync(file, 'utf8'))!;
    const [{ data }] = JSON.parse(json!) as [{ data: number[][] }];
    const [kept, losses] = data as [number[], number[]];
    expect(kept.length).toBeLessThanOrEqual(2001);
    expect(losses).toEqual(kept.map(lossAt));
    expect(kept).toEqual(expect.arrayContaining([7_777, 31_234, 50_000]));
  });

  it('do not end training where they cannot be written', async () => {
    const checkpointDir = path.join(temporaryDirectory(), 'run');
    mkdirSync(path.join(checkpointDir, 'metrics.jsonl'), { recursive: true });
    const warnings: string[] = [];
    const listen = (warning: Error): void => void warnings.push(warning.message);
    process.on('warning', listen);
    const { step } = await makeGpt().fit({ ...options, checkpointDir });
    process.off('warning', listen);
    expect(step).toBe(4);
    expect(warnings.join()).toContain('cannot be written');
    expect(existsSync(path.join(checkpointDir, 'model.pt'))).toBe(true);
  });

  it('are not written where they are not wanted', async () => {
    const checkpointDir = path.join(temporaryDirectory(), 'run');
    await makeGpt().fit({ ...options, checkpointDir, metrics: false });
    expect(readdirSync(checkpointDir).filter((name) => /metrics|events/.test(name))).toEqual([]);
  });
});
