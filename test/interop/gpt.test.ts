/**
 * The main job, against real PyTorch: a bundle that Python trained is opened, trained and written in Node, and back.
 *
 * Python runs twice, for the reference before Node's work and to judge the bundles that Node wrote.
 *
 * About tolerances. The two sides compute the same function by different sums (fused q, k and v, SDPA; heads apart in
 * Python), so that float32 results differ in the last bits. In training such a difference can grow suddenly: where a
 * ReLU stands within rounding of its kink, or a gradient is itself nothing but rounding, one side moves a weight by a
 * whole step of Adam and the other does not. PyTorch's fused AdamW strays from its default one in the same way. So
 * the 50 updates are compared twice: in float64, where rounding is too small for that, the trained bundle must give
 * the same to 1e-12, weights and moments included; in float32, a bundle early in training, which has no dead units
 * yet, must give the same losses to 1e-5, and weights as near as a ReLU at its kink allows.
 */
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  CharTokenizer,
  CheckpointManager,
  GPT,
  RandomWindows,
  load,
  manualSeed,
  noGrad,
  optim,
  setNumThreads,
  tidy,
} from '../../lib/index';
import type { Tensor } from '../../lib/index';
import { pythonJson, pythonTimeout, repositoryRoot, runPython } from '../helpers/python';
import { bytesOf, expectSameBits, maxDifference } from '../helpers/tensors';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const UPDATES = 50;
const PROMPT = 'KING RICHARD II:\n';
const GREEDY_TOKENS = 150; // more than the model's context, so that the window slides

/** What Python says about Node's bundles. */
interface Answer {
  step: number;
  greedy: number[];
  next: number[];
  differences: Record<string, string[]>;
  layout: Record<string, boolean>;
}

type StateDict = Map<string, Tensor>;
type OptimizerState = Map<'state', Map<number, Map<'step' | 'exp_avg' | 'exp_avg_sq', Tensor>>>;
type Reference = Map<string, unknown>;

const root = sharedTemporaryDirectory();
const original = path.join(root, 'original');
const oracle = path.join(repositoryRoot, 'test/fixtures/gpt_oracle.py');
let reference: Reference;
let answer: Answer;
const node = { losses: [] as number[], next: [] as number[], greedy: [] as number[], weights: new Map() as StateDict };

beforeAll(async () => {
  setNumThreads(1); // as in Python: models this small gain nothing from more
  cpSync(path.join(repositoryRoot, 'examples/checkpoints/shakespeare-char'), original, { recursive: true });
  await runPython(oracle, ['reference', original, root]);
  reference = (await load(path.join(root, 'reference.pt'))) as Reference;
  await trainInNode();
  await rewriteInNode();
  const request = {
    reference: path.join(root, 'reference.pt'),
    trained: path.join(root, 'node-trained'),
    original,
    unchanged: path.join(root, 'unchanged'),
  };
  writeFileSync(path.join(root, 'request.json'), JSON.stringify(request));
  answer = await pythonJson<Answer>(oracle, ['answer', path.join(root, 'request.json')]);
}, 2 * pythonTimeout);

/** The young bundle, 50 updates, saved; then what Python should find from there on. */
async function trainInNode(): Promise<void> {
  const { model, optimizer, startStep } = await resume('young');
  node.losses = updates(model, optimizer, 0, UPDATES);
  await new CheckpointManager('node-trained', { root }).saveState({ model, optimizer, step: startStep + UPDATES });
  node.weights = await weightsIn('node-trained'); // now, because Python continues in that directory
  const saved = await GPT.load(path.join(root, 'node-trained'));
  node.greedy = await greedyTokens(saved);
  node.next = updates(model, optimizer, UPDATES, UPDATES + 2);
}

/** The trained bundle, opened and saved with nothing done to it. */
async function rewriteInNode(): Promise<void> {
  const { model, optimizer, startStep } = await resume('original');
  await new CheckpointManager('unchanged', { root }).saveState({ model, optimizer, step: startStep });
}

async function resume(name: string): Promise<{ model: GPT; optimizer: optim.AdamW; startStep: number }> {
  const start = await new CheckpointManager(name, { root }).initializeForTraining();
  expect(start.mode).toBe('resume');
  return { ...start, optimizer: start.optimizer as optim.AdamW };
}

async function weightsIn(name: string): Promise<StateDict> {
  return (await load(path.join(root, name, 'model.pt'))) as StateDict;
}

/** Updates with the reference's batches `from` up to `to`; the loss before each. */
function updates(model: GPT, optimizer: optim.AdamW, from: number, to: number): number[] {
  const losses: number[] = [];
  model.train();
  for (let i = from; i < to; i++) {
    tidy(() => {
      const loss = model.forward(tensorOf('inputs').select(0, i), tensorOf('targets').select(0, i)).loss!;
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
      losses.push(Number(loss.item()));
    });
  }
  return losses;
}

async function greedyTokens(model: GPT): Promise<number[]> {
  const text = await model.generate(PROMPT, { maxNewTokens: GREEDY_TOKENS, greedy: true });
  return Array.from(model.tokenizer!.encode(text));
}

function tensorOf(key: string): Tensor {
  return reference.get(key) as Tensor;
}

function logitsOf(model: GPT, idx: Tensor): Tensor {
  model.eval();
  return noGrad(() => model.forward(idx).logits);
}

function expectSameLosses(actual: number[], expected: number[], tolerance: number): void {
  expect(actual).toHaveLength(expected.length);
  const differences = actual.map((loss, i) => Math.abs(loss - expected[i]!));
  expect(Math.max(...differences), `losses ${actual.join(' ')} and ${expected.join(' ')}`).toBeLessThanOrEqual(
    tolerance,
  );
}

describe('a new model from the same seed', () => {
  const configs = {
    default: { vocabSize: 62, blockSize: 32, nEmbd: 48, nHead: 4, nLayer: 3 },
    bias: { vocabSize: 17, blockSize: 8, nEmbd: 12, nHead: 2, nLayer: 2, bias: true },
    'one head': { vocabSize: 65, blockSize: 16, nEmbd: 20, nHead: 1, nLayer: 1 },
    young: { vocabSize: 62, blockSize: 64, nEmbd: 64, nHead: 4, nLayer: 4, dropout: 0 },
    'six heads': { vocabSize: 65, blockSize: 64, nEmbd: 192, nHead: 6, nLayer: 6 },
  };

  test.each(Object.entries(configs))("'%s' has Python's weights bit for bit, and its logits", (name, config) => {
    const expected = (reference.get('initial') as Map<string, Map<string, unknown>>).get(name)!;
    const weights = expected.get('weights') as StateDict;
    manualSeed(1337);
    const model = new GPT(config);
    const state = model.stateDict();
    expect([...state.keys()]).toEqual([...weights.keys()]);
    for (const [key, value] of state) expectSameBits(value, weights.get(key)!, key);
    const logits = logitsOf(model, expected.get('idx') as Tensor);
    expect(maxDifference(logits, expected.get('logits') as Tensor)).toBeLessThanOrEqual(1e-5);
  });
});

describe('a bundle that Python trained', () => {
  test('gives the same logits', async () => {
    const model = await GPT.load(original);
    const logits = logitsOf(model, tensorOf('inputs').select(0, 0));
    const expected = tensorOf('logits');
    // The criterion of torch.testing.assert_close for float32. A trained model has logits of 15 and more, of which
    // Python's own are 1e-5 off their exact values.
    const excess = logits.sub(expected).abs().sub(expected.abs().mul(1.3e-6));
    expect(Number(excess.max().item())).toBeLessThanOrEqual(1e-5);
  });

  test('gives the same greedy text, past the end of its context', async () => {
    expect(await greedyTokens(await GPT.load(original))).toEqual(reference.get('greedy'));
  });

  test('gives the same losses, weights and moments in 50 updates of AdamW, in float64', async () => {
    const expected = reference.get('float64') as Map<string, unknown>;
    const { model } = await resume('original');
    model.to('float64');
    const optimizer = new optim.AdamW(model.parameters());
    const saved = await load(path.join(original, 'optimizer.pt'), { exact: true });
    model.loadOptimizerStateDict(optimizer, saved as Map<string, unknown>);

    expectSameLosses(updates(model, optimizer, 0, UPDATES), expected.get('losses') as number[], 1e-12);
    const weights = expected.get('weights') as StateDict;
    for (const [key, value] of model.stateDict()) {
      expect(maxDifference(value, weights.get(key)!), key).toBeLessThanOrEqual(1e-12);
    }
    const moments = (expected.get('optimizer') as OptimizerState).get('state')!;
    const own = (model.optimizerStateDict(optimizer) as OptimizerState).get('state')!;
    expect([...own.keys()]).toEqual([...moments.keys()]);
    for (const [index, values] of own) {
      for (const [name, value] of values) {
        const difference = maxDifference(value, moments.get(index)!.get(name)!);
        expect(difference, `${name} of parameter ${index}`).toBeLessThanOrEqual(1e-12);
      }
    }
  });

  test('is written back unchanged: keys, order, bits, and the module versions', () => {
    expect(answer.differences).toEqual({ 'model.pt': [], 'optimizer.pt': [] });
    expect(answer.layout).toEqual({ 'model.pt': true, 'optimizer.pt': true });
    for (const file of ['config.json', 'tokenizer.json', 'training_state.json']) {
      const json = (directory: string): unknown => JSON.parse(readFileSync(path.join(directory, file), 'utf8'));
      expect(json(path.join(root, 'unchanged')), file).toEqual(json(original));
    }
  });
});

describe('50 updates of AdamW in Node and in Python', () => {
  test('give the same losses', () => {
    expectSameLosses(node.losses, reference.get('losses') as number[], 1e-5);
    expect(node.losses.at(-1)).toBeLessThan(node.losses[0]! - 0.1); // they did train
  });

  test('give the same weights', async () => {
    const own = node.weights;
    const python = await weightsIn('python-trained');
    expect([...own.keys()]).toEqual([...python.keys()]);
    const differences = [...own].map(([key, value]) => value.sub(python.get(key)!).abs());
    const total = differences.reduce((sum, difference) => sum + Number(difference.sum().item()), 0);
    const count = differences.reduce((sum, difference) => sum + difference.numel(), 0);
    expect(total / count, 'mean difference').toBeLessThanOrEqual(1e-6);
    // Where a ReLU stood at its kink, its weights may be up to an update, one learning rate, apart.
    const largest = Math.max(...differences.map((difference) => Number(difference.max().item())));
    expect(largest, 'largest difference').toBeLessThanOrEqual(3e-4);
  });

  test('leave a bundle that Python resumes with the same next losses', () => {
    expect(answer.step).toBe(3 * UPDATES);
    expectSameLosses(answer.next, node.next, 1e-5);
  });

  test('leave a bundle that Python continues with in place, and Node opens again where Python stopped', async () => {
    const { model, optimizer, startStep } = await resume('node-trained');
    expect(startStep).toBe(3 * UPDATES + 2);
    const python = await resume('python-trained'); // two updates behind
    updates(python.model, python.optimizer, UPDATES, UPDATES + 2);
    expectSameLosses(updates(model, optimizer, 0, 2), updates(python.model, python.optimizer, 0, 2), 1e-5);
  });

  test('leave a bundle from which Python writes the same greedy text', () => {
    expect(answer.greedy).toEqual(node.greedy);
  });

  test('in Python leave a bundle that Node resumes with the same next losses', async () => {
    const { model, optimizer, startStep } = await resume('python-trained');
    expect(startStep).toBe(3 * UPDATES);
    expectSameLosses(updates(model, optimizer, UPDATES, UPDATES + 2), reference.get('next') as number[], 1e-5);
  });
});

test('the same seed draws the same batches', () => {
  const text = readFileSync(path.join(repositoryRoot, 'examples/data/richard.txt'), 'utf8');
  const windows = new RandomWindows(CharTokenizer.fromText(text).encode(text), { batchSize: 8, blockSize: 64 });
  manualSeed(1);
  for (let i = 0; i < 3; i++) {
    const { x, y } = windows.next();
    expect(bytesOf(x).equals(bytesOf(tensorOf('inputs').select(0, i)))).toBe(true);
    expect(bytesOf(y).equals(bytesOf(tensorOf('targets').select(0, i)))).toBe(true);
  }
});
