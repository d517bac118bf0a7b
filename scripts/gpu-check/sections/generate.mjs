// Generation on the device: with and without a cache, one sequence and many, on the worker and on the main thread.
import { smallGpt, trainingText } from '../models.mjs';

const COUNT = 40;

export async function run(context, tb) {
  const { device } = context;
  const trained = smallGpt(tb, 'cpu', { blockSize: 64 });
  await trained.fit({ text: trainingText(), batchSize: 8, maxSteps: 40, evalInterval: 0, seed: 2, learningRate: 3e-3 });
  const there = new tb.GPT(trained.config, { tokenizer: trained.tokenizer, device, init: false });
  there.loadStateDict(trained.stateDict());
  const greedy = { maxNewTokens: COUNT, greedy: true };
  let expected;
  await context.check('greedy tokens are those of the CPU', async () => {
    expected = await trained.generate('the quick', greedy);
    const own = await there.generate('the quick', greedy);
    return { ok: own === expected, note: own };
  });
  await context.check(
    'on the main thread the same',
    async () => (await there.generate('the quick', { ...greedy, thread: 'main' })) === expected,
  );
  await context.check('with a cache the logits are those without', () => {
    there.eval();
    const ids = tb.tensor([[...there.tokenizer.encode('the quick brown fox')]]).to(device);
    const whole = there.forward(ids).logits.select(1, ids.size(1) - 1);
    const cache = there.makeCache();
    there.forwardCached(ids.narrow(1, 0, 5), cache);
    let last;
    for (let i = 5; i < ids.size(1); i++) last = there.forwardCached(ids.narrow(1, i, 1), cache);
    const difference = whole.sub(last).abs().max().item();
    cache.dispose();
    return { ok: difference < 1e-4, measured: difference.toExponential(1), allowed: '<= 1e-4' };
  });
  await context.check('eight sequences at once give the tokens of each alone', async () => {
    const prompts = ['the', 'quick', 'brown', 'fox', 'jumps', 'over', 'lazy', 'dog'];
    const alone = [];
    for (const prompt of prompts) alone.push(await there.generate(prompt, greedy));
    const together = await Promise.all(prompts.map((prompt) => there.generate(prompt, greedy)));
    const differing = prompts.filter((_, i) => alone[i] !== together[i]);
    return { ok: differing.length === 0, note: differing.join(', ') };
  });
  await context.check('a stream ends at its signal, and frees its memory', async () => {
    const controller = new AbortController();
    const before = tb.cuda.memoryAllocated();
    let pieces = 0;
    try {
      for await (const piece of there.stream('the', { ...greedy, maxNewTokens: 1000, signal: controller.signal }))
        if (piece !== undefined && ++pieces === 5) controller.abort();
    } catch (error) {
      if (error.name !== 'AbortError') throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
    const grown = tb.cuda.memoryAllocated() - before;
    return { ok: pieces >= 5 && grown <= 2 ** 20, measured: `${grown} bytes`, allowed: '<= 1 MiB' };
  });
}
