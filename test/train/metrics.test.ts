/** What training writes down beside the bundle: lines, TensorBoard's events, and a page. */
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

  it('go on where a run goes on, without the lines that it makes again', async () => {
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
    expect(page).toContain('"Loss, nats a token"');
    expect(page).not.toMatch(/(src|href)=/);
    const charts = JSON.parse(/const charts = (.*);/.exec(page)![1]!) as { data: number[][] }[];
    expect(charts).toHaveLength(5);
    expect(charts[0]!.data[0]).toEqual([0, 1, 2, 3, 4]);
  });

  it('are drawn by the page: a curve of every series, through every point', async () => {
    const checkpointDir = path.join(temporaryDirectory(), 'run');
    await makeGpt().fit({ ...options, maxSteps: 30, evalInterval: 5, checkpointDir });
    const { figures, paths, texts } = await drawPage(readFileSync(path.join(checkpointDir, 'metrics.html'), 'utf8'));
    expect(figures).toBe(5);
    // Of each series a line and its markers. The batch's loss, learning rate, norm, speed and memory at 30 steps, points in
    // one column of pixels left out; two evaluated losses at 7.
    expect(paths.filter((points) => points >= 25)).toHaveLength(2 * 5);
    expect(paths.filter((points) => points === 7)).toHaveLength(2 * 2);
    expect(texts).toEqual(expect.arrayContaining(['0', '10', '20', '30']));
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
