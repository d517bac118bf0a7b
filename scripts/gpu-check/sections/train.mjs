// Training by `fit` on the device: losses against the CPU, exact resume, precisions, bundles opened on the other device.
import path from 'node:path';
import { atMost, relativeDifference } from '../context.mjs';
import { smallGpt, trainingText } from '../models.mjs';

const STEPS = 20;
/** Losses of 20 float32 updates; a difference of one update grows in the next. */
const ALLOWED_LOSS = 1e-3;
/** bfloat16 has 8 bits of mantissa, float16 11. */
const ALLOWED_HALF = 2e-2;

export async function run(context, tb) {
  const { device } = context;
  const text = trainingText();
  const options = { text, batchSize: 8, maxSteps: STEPS, evalInterval: 0, seed: 5, learningRate: 1e-3 };
  const losses = {};
  await context.check(`${STEPS} updates of fit have the losses of the CPU`, async () => {
    for (const on of ['cpu', device]) losses[on] = (await smallGpt(tb, on).fit(options)).losses;
    return atMost(furthest(losses[device], losses.cpu), ALLOWED_LOSS);
  });
  await context.check('on the main thread fit gives the same bits', async () => {
    const main = await smallGpt(tb, device).fit({ ...options, thread: 'main' });
    return atMost(furthest(main.losses, losses[device]), 0);
  });
  for (const precision of ['bfloat16', 'float16']) {
    await context.check(`fit in ${precision}`, async () => {
      const result = await smallGpt(tb, device).fit({ ...options, precision });
      return atMost(furthest(result.losses, losses.cpu), ALLOWED_HALF);
    });
  }
  await context.check('a resumed run, with dropout, is to the bit the run that never stopped', async () => {
    const whole = smallGpt(tb, device, { dropout: 0.2 });
    const { losses: expected } = await whole.fit(options);
    const directory = path.join(context.directory, 'resumed');
    const first = smallGpt(tb, device, { dropout: 0.2 });
    await first.fit({ ...options, maxSteps: STEPS / 2, checkpointDir: directory });
    const again = await tb.GPT.load(directory, { device, optimizer: true });
    const { losses: rest } = await again.fit({ ...options, maxSteps: STEPS / 2, checkpointDir: directory });
    const difference = furthest(rest, expected.slice(STEPS / 2));
    return { ...atMost(difference, 0), note: again.device };
  });
  await context.check('a loss that is not finite makes no update', async () => {
    const model = smallGpt(tb, device);
    const { weight } = model.lnF;
    tb.noGrad(() => weight.fill_(Infinity));
    const before = model.tokenEmbedding.weight.detach().clone();
    let code = '';
    try {
      await model.fit({ ...options, maxSteps: 1 });
    } catch (error) {
      code = error.code;
    }
    const isSame = tb.equal(before, model.tokenEmbedding.weight.detach());
    return { ok: code === 'ERR_TORCHBIND_NONFINITE_LOSS' && isSame, note: code };
  });
  for (const [from, to] of [
    [device, 'cpu'],
    ['cpu', device],
  ]) {
    await context.check(`a bundle saved on ${from} opens on ${to}, to the bit`, async () => {
      const directory = path.join(context.directory, `${from}-${to}`.replaceAll(':', ''));
      const model = smallGpt(tb, from);
      await model.fit({ ...options, maxSteps: 3 });
      await model.saveCheckpointBundle(directory);
      const opened = await tb.GPT.load(directory, { device: to });
      const [own, other] = [model.stateDict(), opened.stateDict()];
      const differing = [...own].filter(([key, tensor]) => !tb.equal(tensor.cpu(), other.get(key).cpu()));
      const isThere = opened.device.startsWith(to.split(':')[0]);
      const logits = [model, opened].map((one) => {
        one.eval();
        return one.forward(tb.arange(16, { device: one.device }).unsqueeze(0)).logits;
      });
      return { ...atMost(relativeDifference(tb, logits[1], logits[0]), 1e-5), ok: differing.length === 0 && isThere };
    });
  }
}

function furthest(losses, expected) {
  if (losses.length !== expected.length) return Infinity;
  return Math.max(...losses.map((loss, i) => Math.abs(loss - expected[i])));
}
