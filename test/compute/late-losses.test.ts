import { beforeAll, expect, it } from 'vitest';
import {
  CharTokenizer,
  GPT,
  manualSeed,
  noGrad,
  optim,
  setNumThreads,
  type Tensor,
  tidy,
  TokenStream,
} from '../../lib';
import { TrainingEngine } from '../../lib/compute';
import { type Outcome, update } from '../../lib/train/update';
import { makeRunData } from '../../lib/train/run-data';
import { bytesOf } from '../helpers/tensors';

// On a GPU `fit` reads the losses after the update, which the device skips where one is not finite. The kernels of the CPU take the
// same argument, so the same code is compared here with the code that reads first. On the CPU an update from one batch is one call.

/** When the loss is read: before the update, after it, or after an update in one call. */
type Order = 'first' | 'late' | 'one call';

const text = 'the quick brown fox jumps over the lazy dog.\n'.repeat(30);

beforeAll(() => setNumThreads(1)); // Bits depend on the number of threads.

function make(): { gpt: GPT; optimizer: optim.AdamW } {
  manualSeed(1);
  const tokenizer = CharTokenizer.fromText(text);
  const gpt = new GPT(
    { vocabSize: tokenizer.vocabSize, blockSize: 16, nLayer: 2, nHead: 2, nEmbd: 16, dropout: 0.2 },
    { tokenizer },
  );
  return { gpt: gpt.train(), optimizer: new optim.AdamW(gpt.parameters(), { lr: 1e-2, amsgrad: true }) };
}

/** Weights and the optimizer's state, in bytes. */
function numbersOf(gpt: GPT, optimizer: optim.AdamW): string[] {
  return tidy(() => {
    const tensors: Tensor[] = [...gpt.stateDict().values()];
    for (const parts of optimizer.state.values()) for (const value of parts.values()) tensors.push(value as Tensor);
    return tensors.map((value) => bytesOf(value.contiguous()).toString('base64'));
  });
}

type Run = (updates: number, order: Order) => Promise<(Outcome | null)[]>;

function runOf(
  gpt: GPT,
  optimizer: optim.AdamW,
  thread: 'main' | 'worker',
  gradAccumulation: number,
): { run: Run; updated: number[]; close: () => void } {
  const engine = new TrainingEngine(gpt, optimizer, thread, false);
  const options = { batchSize: 4, blockSize: 16, seed: 1, device: 'cpu', vocabSize: gpt.config.vocabSize } as const;
  const data = makeRunData(new TokenStream(gpt.tokenizer!.encode(text) as Int32Array), 'random', options, null);
  const updated: number[] = [];
  const run: Run = async (updates, order) => {
    const outcomes = [];
    for (let i = 0; i < updates; i++)
      outcomes.push(
        await update(engine, gpt, data, {
          gradAccumulation,
          gradClip: 0.5,
          precision: 'float32',
          scaler: null,
          ranks: null,
          readsLate: order === 'late',
          judgesLate: order === 'one call',
          shouldStop: () => false,
          judge: (loss) => (Number.isFinite(loss) ? undefined : `the loss is ${loss}`),
          onUpdated: (loss) => updated.push(loss),
        }),
      );
    return outcomes;
  };
  return { run, updated, close: () => engine.close() };
}

const ways = (['main', 'worker'] as const).flatMap((thread) => [
  { thread, order: 'late', parts: 2 } as const,
  { thread, order: 'one call', parts: 1 } as const,
]);

it.each(ways)('losses read later give the same bits: $thread, $order', async ({ thread, order, parts }) => {
  const results = [];
  for (const each of ['first', order] as const) {
    const { gpt, optimizer } = make();
    const { run, updated, close } = runOf(gpt, optimizer, thread, parts);
    const outcomes = await run(5, each);
    close();
    expect(updated).toHaveLength(5);
    results.push({ outcomes, updated, numbers: numbersOf(gpt, optimizer) });
  }
  expect(results[1]).toEqual(results[0]);
});

it.each(ways)('an update with a loss that is not finite is skipped: $thread, $order', async (way) => {
  const { thread, order, parts } = way;
  const { gpt, optimizer } = make();
  const { run, updated, close } = runOf(gpt, optimizer, thread, parts);
  await run(2, order);
  const weight = gpt.lnF.weight!;
  const good = weight.detach().clone();
  noGrad(() => weight.fill_(Infinity));
  const before = numbersOf(gpt, optimizer);
  const [outcome] = await run(1, order);
  expect(outcome).toMatchObject({ loss: NaN, problem: 'the loss is NaN' });
  expect(updated).toHaveLength(2);
  expect(numbersOf(gpt, optimizer)).toEqual(before);
  noGrad(() => weight.copy_(good));
  const [next] = await run(1, order);
  expect(next!.problem).toBeUndefined();
  expect(optimizer.state.get(weight)!.get('step')).toSatisfy((step: Tensor) => step.item() === 3);
  close();
});
