// Capture and replay: what a graph computes is what the operators compute one by one.
import { atMost } from '../context.mjs';
import { DecodeStep, makeGraph, TrainingStep } from '../graphed.mjs';
import { smallGpt } from '../models.mjs';

const STEPS = 10;
/** The same kernels in the same order; atomic additions in the embedding's gradient come in any order. */
const ALLOWED = 1e-5;

export async function run(context, tb) {
  const { device, isCuda } = context;
  await context.check('a replay computes from the values that are there then', () => {
    const x = tb.ones(1000, { device });
    const y = tb.zeros(1000, { device });
    const graph = makeGraph(tb, isCuda);
    graph.capture(() => tb.tidy(() => void y.copy_(x.mul(2).add(1))));
    x.fill_(5);
    graph.replay();
    const first = y.sum().item();
    x.fill_(-1);
    graph.replay();
    return { ok: first === 11_000 && y.sum().item() === -1000, measured: `${first}`, allowed: '11000' };
  });
  await context.check('what cannot be captured is an error, and the device works on', () => {
    if (!isCuda) return { ok: null, note: 'a CPU captures nothing' };
    const x = tb.ones(10, { device });
    const graph = new tb.cuda.CUDAGraph();
    let message = '';
    try {
      graph.capture(() => x.sum().item());
    } catch (error) {
      message = error.message;
    }
    return { ok: message !== '' && tb.ones(5, { device }).sum().item() === 5, note: message };
  });
  for (const precision of ['float32', 'bfloat16']) {
    await context.check(`a captured training step in ${precision}, ${STEPS} updates`, () => {
      const [graphed, eager] = [true, false].map((isGraphed) => losses(context, tb, precision, isGraphed));
      return atMost(Math.max(...graphed.map((loss, i) => Math.abs(loss - eager[i]))), ALLOWED);
    });
  }
  await context.check('dropout draws other numbers in each replay', () => {
    const x = tb.ones(10_000, { device });
    const y = tb.zeros(10_000, { device });
    const graph = makeGraph(tb, isCuda);
    graph.capture(() => tb.tidy(() => void y.copy_(tb.nn.functional.dropout(x, 0.5))));
    graph.replay();
    const first = y.clone();
    graph.replay();
    return !tb.equal(first, y);
  });
  await context.check('captured decoding gives the tokens of forwardCached', () => {
    const model = smallGpt(tb, device);
    model.eval();
    const prompt = tb
      .tensor([
        [3, 1, 4, 1],
        [2, 7, 1, 8],
      ])
      .to(device);
    const decoder = new DecodeStep(tb, model, { batch: 2, length: 32, isCuda });
    decoder.capture();
    const own = decoder.generate(prompt, 20, decoder.run).tolist();
    const eager = decoder.generate(prompt, 20, decoder.runEagerly).tolist();
    const expected = byCache(tb, model, prompt, 20);
    const ok = JSON.stringify(own) === JSON.stringify(expected) && JSON.stringify(eager) === JSON.stringify(expected);
    return { ok, note: ok ? '' : `${own} / ${eager} / ${expected}` };
  });
}

/** Losses of updates after the three that warm a capture up. */
function losses(context, tb, precision, isGraphed) {
  const { device, isCuda } = context;
  const model = smallGpt(tb, device);
  const optimizer = new tb.optim.AdamW(model.parameters(), { lr: 1e-3 });
  const step = new TrainingStep(tb, model, optimizer, { batch: 4, block: 32, precision, isCuda });
  tb.manualSeed(9);
  const batches = Array.from({ length: STEPS + 1 }, () => tb.randint(0, 20, [4, 32]));
  step.feed(batches[0], batches[0]);
  if (isGraphed) step.capture();
  else for (let i = 0; i < 3; i++) step.runEagerly();
  const read = batches.slice(1).map((batch) => {
    step.feed(batch, batch);
    if (isGraphed) step.run();
    else step.runEagerly();
    return step.loss.item();
  });
  step.dispose();
  return read;
}

function byCache(tb, model, prompt, count) {
  const cache = model.makeCache(prompt.size(0));
  const tokens = [];
  let logits = model.forwardCached(prompt, cache);
  for (let i = 0; i < count; i++) {
    const token = logits.argmax(-1, { keepdim: true });
    tokens.push(token);
    if (i < count - 1) logits = model.forwardCached(token, cache);
  }
  cache.dispose();
  return tb.cat(tokens, 1).tolist();
}
