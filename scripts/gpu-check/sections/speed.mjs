// Times next to Python in the same run: training steps, decoding, calls of operators. A goal that is missed is a failure on a
// GPU; a rehearsal only shows figures.
import { format } from '../context.mjs';
import { DecodeStep, TrainingStep } from '../graphed.mjs';
import { gpt2Config } from '../models.mjs';

const GRAPH_GOAL = 0.8;
const DECODE_GOAL = 2;
const OPERATOR_GOAL = 1;

export async function run(context, tb) {
  const sizes = context.size(
    { batch: 8, block: 512, steps: 20, tokens: 100, calls: 20_000 },
    { batch: 2, block: 16, steps: 2, tokens: 8, calls: 200 },
  );
  await operators(context, tb, sizes);
  tb.backends.cuda.matmul.allowTf32 = true;
  for (const precision of ['float32', 'bfloat16']) await training(context, tb, precision, sizes);
  for (const batch of [1, 8]) await decoding(context, tb, batch, sizes);
  // Last: compiling takes the longest, and no figure above waits for it.
  for (const precision of ['float32', 'bfloat16']) {
    await context.check(`step, ${label(precision, context)}: torch.compile`, async () => {
      const { milliseconds } = await context.ask(stepRequest(context, precision, sizes, true));
      return { ok: null, measured: `${format(milliseconds)} ms` };
    });
  }
}

async function operators(context, tb, { calls }) {
  const { device } = context;
  const a = tb.ones(8, { device });
  const b = tb.ones(8, { device });
  const loop = () => {
    for (let i = 0; i < calls; i++) a.add(b).dispose();
  };
  loop();
  wait(context, tb);
  const own = time(loop) / calls;
  wait(context, tb);
  await context.check('call of add on 8 numbers', async () => {
    const { milliseconds } = await context.ask({ ask: 'operator', device, calls });
    return against(context, own * 1000, milliseconds * 1000, 'us', OPERATOR_GOAL);
  });
}

async function training(context, tb, precision, sizes) {
  const { batch, block, steps } = sizes;
  const { device, isCuda } = context;
  const name = `step, ${label(precision, context)}`;
  const config = gpt2Config(!isCuda);
  tb.manualSeed(1);
  const model = new tb.GPT(config, { device });
  const optimizer = new tb.optim.AdamW(model.parameters(), { lr: 3e-4 });
  const step = new TrainingStep(tb, model, optimizer, { batch, block, precision, isCuda });
  const ids = tb.randint(0, config.vocabSize, [batch, block]);
  const batchIds = isCuda ? ids.pinMemory() : ids;
  const timed = (run) => {
    for (let i = 0; i < 3; i++) run();
    wait(context, tb);
    const milliseconds = time(() => {
      for (let i = 0; i < steps; i++) {
        step.feed(batchIds, batchIds); // the loss is read after the last step only
        run();
      }
      wait(context, tb);
    });
    return milliseconds / steps;
  };
  step.feed(batchIds, batchIds);
  let python;
  await context.check(`${name}: operators one by one`, async () => {
    const own = timed(() => step.runEagerly());
    ({ milliseconds: python } = await context.ask(stepRequest(context, precision, sizes, false)));
    return { ...against(context, own, python, 'ms', 1), note: note(batch * block, own) };
  });
  await context.check(`${name}: captured`, () => {
    step.capture();
    const own = timed(() => step.run());
    const loss = step.loss.item();
    const result = against(context, own, python, 'ms', GRAPH_GOAL);
    return Number.isFinite(loss)
      ? { ...result, note: note(batch * block, own) }
      : { ok: false, note: `the loss is ${loss}` };
  });
  step.dispose();
  model.dispose();
  await context.check(`${name}: fit`, async () => {
    const own = await millisecondsOfFit(tb, { ...config, blockSize: block }, { device, batch, precision, steps });
    return { ...against(context, own, python, 'ms', 1.1), note: note(batch * block, own) };
  });
  if (isCuda) tb.cuda.emptyCache();
}

/** Milliseconds an update of `fit`, which draws its batches and reads each loss, after three that warm up. */
async function millisecondsOfFit(tb, config, { device, batch, precision, steps }) {
  const model = new tb.GPT(config, { device });
  const tokens = Int32Array.from({ length: 20_000 }, (_, i) => (i * 7919) % config.vocabSize);
  const data = new tb.TokenStream(tokens);
  const times = [];
  const onStep = () => void times.push(performance.now());
  await model.fit({ data, batchSize: batch, maxSteps: steps + 3, evalInterval: 0, precision, seed: 1, onStep });
  model.dispose();
  return (times.at(-1) - times[2]) / steps;
}

async function decoding(context, tb, batch, { tokens }) {
  const { device, isCuda } = context;
  const config = gpt2Config(!isCuda);
  tb.manualSeed(1);
  const model = new tb.GPT(config, { device });
  model.eval();
  const prompt = tb.randint(0, config.vocabSize, [batch, 4]).to(device);
  const rate = (milliseconds) => (1000 * batch * tokens) / milliseconds;
  let python;
  const name = `decoding, ${batch} at once`;
  const show = (own, goal) => {
    if (python === undefined)
      return { ok: null, measured: `${format(own)} tokens/s`, note: 'transformers was not timed' };
    const ratio = own / python;
    const ok = isCuda && goal !== undefined ? ratio >= goal : null;
    return {
      ok,
      measured: `${format(own)} tokens/s`,
      allowed: goal === undefined ? '' : `>= ${goal} x`,
      note: `${format(ratio)} x transformers (${format(python)})`,
    };
  };
  await context.check(`${name}: forwardCached`, async () => {
    const request = { ask: 'decode', device, batch, tokens, config };
    ({ rate: python } = await context.ask(request));
    const run = () => withCache(tb, model, prompt, tokens);
    run();
    return show(rate(time(run)), undefined);
  });
  await context.check(`${name}: captured`, () => {
    const decoder = new DecodeStep(tb, model, { batch, length: tokens + 28, isCuda });
    decoder.capture();
    const run = () => decoder.generate(prompt, tokens, decoder.run).tolist();
    run();
    const own = rate(time(run));
    decoder.dispose();
    return show(own, DECODE_GOAL);
  });
  model.dispose();
}

function withCache(tb, model, prompt, count) {
  const cache = model.makeCache(prompt.size(0));
  const all = tb.tidy(() => {
    let logits = model.forwardCached(prompt, cache);
    const tokens = [];
    for (let i = 0; i < count; i++) {
      tokens.push(logits.argmax(-1, { keepdim: true }));
      if (i < count - 1) logits = model.forwardCached(tokens[i], cache);
    }
    return tb.cat(tokens, 1).tolist();
  });
  cache.dispose();
  return all;
}

function stepRequest(context, precision, { batch, block, steps }, compile) {
  return {
    ask: 'step',
    device: context.device,
    precision,
    batch,
    block,
    steps,
    compile,
    config: gpt2Config(!context.isCuda),
  };
}

/** Shorter is better: the ratio to Python's time is at most the goal. */
function against(context, own, python, unit, goal) {
  const ratio = own / python;
  return {
    ok: context.isCuda ? ratio <= goal : null,
    measured: `${format(own)} ${unit}, ${format(ratio)} of Python`,
    allowed: `<= ${goal}`,
    note: `Python ${format(python)} ${unit}`,
  };
}

function label(precision, { isCuda }) {
  return precision === 'float32' && isCuda ? 'TF32' : precision;
}

function note(tokens, milliseconds) {
  return `${format(Math.round((1000 * tokens) / milliseconds))} tokens/s`;
}

function wait({ isCuda, device }, tb) {
  if (isCuda) tb.cuda.synchronize(device);
}

/** Milliseconds. */
function time(run) {
  const began = performance.now();
  run();
  return performance.now() - began;
}
