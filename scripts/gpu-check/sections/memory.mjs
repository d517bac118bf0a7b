// Leaks, out of memory, and an event loop that turns meanwhile.
import { atMost } from '../context.mjs';
import { smallGpt, trainingText } from '../models.mjs';

const STEPS = 500;
const MEGABYTE = 2 ** 20;
/** What promises compute must not hold the event loop for longer: a frame of a display. */
const ALLOWED_DELAY = 16;

export async function run(context, tb) {
  const { device, isCuda } = context;
  const allocated = () => (isCuda ? tb.cuda.memoryAllocated(device) : tb.memory().numBytes);
  await context.check(`no leak over ${STEPS} steps without any scope`, async () => {
    const model = smallGpt(tb, device);
    const optimizer = new tb.optim.AdamW(model.parameters(), { lr: 1e-3 });
    const x = tb.randint(0, 20, [8, 32], { device });
    const step = () => {
      const { loss } = model.forward(x, x);
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
    };
    for (let i = 0; i < 20; i++) step();
    await collect();
    const before = allocated();
    for (let i = 0; i < STEPS; i++) step();
    await collect();
    return atMost(allocated() - before, MEGABYTE, { unit: ' bytes' });
  });
  await context.check('no leak over fit again and again', async () => {
    const model = smallGpt(tb, device);
    const fit = () => model.fit({ text: trainingText(), batchSize: 4, maxSteps: 5, evalInterval: 0, seed: 1 });
    await fit();
    await collect();
    const before = allocated();
    for (let i = 0; i < 10; i++) await fit();
    await collect();
    return atMost(allocated() - before, MEGABYTE, { unit: ' bytes' });
  });
  await context.check('out of memory names sizes, and leaves the process usable', () => {
    // Address space is larger than any machine's memory, so that a CPU refuses this size too.
    const rows = isCuda ? Math.ceil((2 * tb.cuda.memGetInfo(device).total) / (4 * 2 ** 20)) : 2 ** 38;
    try {
      tb.empty(rows, 2 ** 20, { device });
    } catch (error) {
      const namesSizes = isCuda ? /Tried to allocate [\d.]+ GiB.*total capacity of [\d.]+ GiB/s : /\d{6,} bytes/;
      const isUsable = tb.ones(1000, { device }).sum().item() === 1000;
      const ok = namesSizes.test(error.message) && error.code?.startsWith('ERR_TORCHBIND') && isUsable;
      return { ok, note: error.message };
    }
    return { ok: false, note: 'it was allocated' };
  });
  await context.check('after out of memory in the middle of a step the next step is made', () => {
    if (!isCuda) return { ok: null, note: 'a CPU has no limit to run into' };
    const model = smallGpt(tb, device);
    const { free } = tb.cuda.memGetInfo(device);
    const hog = tb.empty(Math.floor(free / MEGABYTE) - 64, MEGABYTE, { dtype: 'uint8', device });
    const big = tb.randint(0, 20, [4096, 32], { device });
    let refused = '';
    try {
      tb.tidy(() => model.forward(big, big).loss.backward());
    } catch (error) {
      refused = error.message;
    }
    hog.dispose();
    tb.cuda.emptyCache();
    const x = tb.randint(0, 20, [8, 32], { device });
    model.forward(x, x).loss.backward();
    return { ok: /out of memory/i.test(refused), note: refused };
  });
  await context.check('itemAsync does not hold the event loop', async () => {
    const size = context.size(8192, 1024);
    const a = tb.randn(size, size, { device });
    const enqueue = () =>
      tb.tidy(() => {
        let x = a;
        for (let i = 0; i < context.size(20, 0); i++) x = x.matmul(a);
        return x.sum();
      });
    enqueue().item();
    const sum = enqueue();
    const delay = await longestDelay(() => sum.itemAsync());
    return atMost(delay, ALLOWED_DELAY, { unit: ' ms' });
  });
  await context.check('fit does not hold the event loop', async () => {
    const model = smallGpt(tb, device, { nEmbd: context.size(512, 64) });
    const fit = (maxSteps) => model.fit({ text: trainingText(), batchSize: 8, maxSteps, evalInterval: 0, seed: 1 });
    await fit(3);
    const delay = await longestDelay(() => fit(30));
    return isCuda ? atMost(delay, ALLOWED_DELAY, { unit: ' ms' }) : { ok: null, measured: `${delay.toFixed(1)} ms` };
  });
}

/** Collects what nothing refers to, and lets what the collector found be freed. */
async function collect() {
  for (let i = 0; i < 3; i++) {
    global.gc();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The longest time in milliseconds between two turns of the event loop while a promise is under way. */
async function longestDelay(start) {
  let longest = 0;
  let last = performance.now();
  let isDone = false;
  const turn = () => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    if (!isDone) setImmediate(turn);
  };
  setImmediate(turn);
  await start();
  isDone = true;
  return longest;
}
