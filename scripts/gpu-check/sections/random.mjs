// Random numbers of the device: equal to Python's from the same seed, and to themselves from the same state.
import path from 'node:path';

const SEED = 1234;

export async function run(context, tb) {
  const { device } = context;
  await context.check('numbers from a seed are those of Python, to the bit', async () => {
    tb.manualSeed(SEED);
    const own = {
      rand: tb.rand(1000, { device }),
      randn: tb.randn(1000, { device }),
      randint: tb.randint(0, 100, [1000], { device }),
      randperm: tb.randperm(1000, { device }),
      dropout: tb.nn.functional.dropout(tb.ones(1000, { device }), 0.3),
    };
    const file = path.join(context.directory, 'random.pt');
    await context.ask({ ask: 'random', device, seed: SEED, file });
    const theirs = await tb.load(file);
    const differing = Object.keys(own).filter((key) => !tb.equal(own[key].cpu(), theirs.get(key)));
    return { ok: differing.length === 0, note: differing.join(', ') };
  });
  await context.check('a state gives the same numbers again', () => {
    const state = tb.getRngState(device);
    const first = tb.randn(100, { device });
    tb.setRngState(state, device);
    return tb.equal(first, tb.randn(100, { device }));
  });
  await context.check('a Generator of its own leaves the default one alone', () => {
    const generator = new tb.Generator(device);
    generator.manualSeed(7);
    const state = tb.getRngState(device);
    const first = tb.rand(50, { device, generator });
    generator.manualSeed(7);
    const second = tb.rand(50, { device, generator });
    return tb.equal(first, second) && tb.equal(state, tb.getRngState(device));
  });
  await context.check('dropout keeps its share, and none in evaluation', () => {
    const layer = new tb.nn.Dropout(0.25);
    const x = tb.ones(100_000, { device });
    const kept = layer.forward(x).gt(0).float().mean().item();
    layer.eval();
    const ok = Math.abs(kept - 0.75) < 0.01 && tb.equal(layer.forward(x), x);
    return { ok, measured: kept.toFixed(4), allowed: '0.75 +- 0.01' };
  });
}
