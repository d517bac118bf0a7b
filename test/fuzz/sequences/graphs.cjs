// Steps of autograd: graphs over the tensors of the sequence, hooks and custom functions that do what hooks should not.
const { OnPurpose } = require('../junk.cjs');

const pick = (step, table) => step.rng.pick(table)(step);

/** A result that a graph is behind, of operators whose backward passes read what forward has saved. */
function graph(step) {
  const { torch, rng } = step;
  const { aten } = torch.ops;
  const x = step.leaf();
  const rows = () => (x.ndim > 0 ? x.size(0) : 1);
  return pick(step, [
    () => x.mul(step.floating()).sum(),
    () => x.mul(x).add(step.scalar()),
    () => x.exp().sigmoid().tanh(),
    () => x.matmul(step.floating()),
    () => x.mul(step.floating()).reshape([-1]),
    () => torch.embedding(x, step.indices(rows(), 5)),
    () => torch.embedding(x, step.tensor()),
    () => torch.embeddingBag(x, step.indices(rows(), 5), torch.tensor([0, 2]), false, rng.int(3)),
    () => x.indexSelect(0, step.indices(rows(), 3)),
    () => x.index([step.tensor()]),
    () => x.gather(0, step.tensor()),
    () => x.take(step.tensor()),
    () => x.scatterAdd(0, step.tensor(), step.floating()),
    () => x.sort(0).values,
    () => x.topk(2)[0],
    () => x.max(0)[0],
    () => x.cumprod(0),
    () => x.view([-1]).narrow(0, 0, 2),
    () => x.asStrided(step.ints(2), step.ints(2)),
    () => torch.softmax(x, -1),
    () => torch.logSoftmax(x, -1),
    () => torch.crossEntropyLoss(x, step.indices(3, rows())),
    () => torch.nllLoss(x, step.tensor()),
    () =>
      torch.ctcLoss(
        torch.randn([8, 2, 4]).requiresGrad_().logSoftmax(2),
        step.indices(4, 6).reshape([2, 3]),
        [8, 8],
        [3, 2],
      ),
    () => torch.layerNorm(x, x.shape.slice(-1), step.floating()),
    () => aten.native_batch_norm(x, null, null, null, null, true, 0.1, 1e-5)[0],
    () => torch.conv1d(torch.randn([1, 2, 9]), torch.randn([3, 2, 3]).requiresGrad_(), null),
    () => torch.conv2d(x.reshape([1, 1, -1, 1]), step.floating().reshape([1, 1, -1, 1])),
    () => torch.maxPool2d(x.reshape([1, 1, -1, 2]), [2, 2]),
    () => aten.max_pool2d_with_indices(x.reshape([1, 1, -1, 2]), [2, 2]),
    () => aten.fractional_max_pool2d(x.reshape([1, 1, -1, 4]), [2, 2], [2, 2], torch.rand([1, 1, 2])),
    () => aten.adaptive_max_pool2d(x.reshape([1, 1, -1, 2]), [2, 2]),
    () => torch.avgPool1d(x.reshape([1, 1, -1]), [2]),
    () => torch.scaledDotProductAttention(x, x, step.floating()),
    () =>
      aten.lstm.input(
        torch.randn([3, 1, 2]),
        [torch.zeros([1, 1, 2]), torch.zeros([1, 1, 2])],
        weights(step),
        true,
        1,
        0,
        true,
        false,
        false,
      )[0],
    () => torch.dropout(x, 0.5, true),
    () => torch.where(step.tensor(), x, step.floating()),
    () => torch.cat([x, step.floating()], 0),
    () => torch.stack([x, x.detach()], 0).unbind(0),
    () => custom(step, x),
  ]);
}

function weights({ torch }) {
  return [[8, 2], [8, 2], [8], [8]].map((shape) => torch.randn(shape).requiresGrad_());
}

function pass(step) {
  const { torch, rng } = step;
  if (rng.chance(0.3)) step.binding.setEngineAlwaysBeside(true); // until the step ends: hooks are called from another thread
  const root = () => {
    const t = step.tensor();
    return t.requiresGrad && t.isFloatingPoint() ? t.sum() : t;
  };
  const retainGraph = rng.chance(0.5);
  const createGraph = rng.chance(0.2);
  return pick(step, [
    () => root().backward({ retainGraph, createGraph }),
    () => root().backward({ retainGraph, createGraph }),
    () => root().backward(step.tensor()),
    () => torch.autograd.backward([root(), root()], null, { retainGraph: true }),
    () => torch.grad([root()], [step.tensor(), step.tensor()], { allowUnused: true, createGraph, retainGraph }),
    () => step.tensor().grad,
    () => void (step.tensor().grad = rng.chance(0.5) ? null : step.tensor()),
    () => step.tensor().retainGrad(),
  ]);
}

/** Of hooks that run inside one another. */
let depth = 0;

/** What a hook does, instead of looking at its gradient. */
function mischief(step, grad) {
  if (depth > 5) return undefined;
  depth++;
  try {
    return misbehave(step, grad);
  } finally {
    depth--;
  }
}

function misbehave(step, grad) {
  const { torch, world } = step;
  const rng = step.rng;
  return pick(step, [
    () => undefined,
    () => grad.mul(2),
    () => step.tensor(),
    () => ({}),
    () => {
      throw new OnPurpose();
    },
    () => void grad.dispose(),
    () => void step.tensor().dispose(),
    () => world.slots.forEach((tensor) => rng.chance(0.3) && tensor?.dispose()),
    () => void globalThis.gc?.(),
    () => pass(step),
    () => void grad.resize_([40]),
    () => void step.tensor().resize_([rng.pick([1, 50])]),
    () => void torch.noGrad(() => step.tensor().zero_()),
    () => void hook(step),
    () => world.hooks[rng.int(world.hooks.length)]?.remove(),
    () => void world.arrays[rng.int(world.arrays.length)]?.fill?.call(new Float32Array(2), 3),
    () => void world.put(rng, grad),
    () => void step.leaf().mul(grad).sum().backward(),
    () => void step.tensor().detach_(),
    () => void torch.ops.aten.set_.source_Tensor(step.tensor(), grad),
    () => void step.tensor().requiresGrad_(false),
  ]);
}

function hook(step) {
  const { rng, world } = step;
  const tensor = step.tensor();
  const handle = pick(step, [
    () => tensor.registerHook((grad) => mischief(step, grad)),
    () => tensor.registerHook((grad) => mischief(step, grad)),
    () => tensor.registerPostAccumulateGradHook((leaf) => void mischief(step, leaf)),
  ]);
  world.hooks[rng.int(world.hooks.length)] = handle;
}

function removeHook(step) {
  const { rng, world } = step;
  world.hooks[rng.int(world.hooks.length)]?.remove();
}

function custom(step, x) {
  const { rng, torch } = step;
  class Fuzzed extends torch.autograd.Function {
    static forward(ctx, input, other) {
      ctx.saveForBackward(input, rng.chance(0.3) ? null : other);
      if (rng.chance(0.1)) mischief(step, input);
      if (rng.chance(0.1)) ctx.markDirty(input);
      if (rng.chance(0.1)) ctx.markNonDifferentiable(other);
      return rng.chance(0.2) ? [input.mul(2), other] : rng.chance(0.1) ? input : input.mul(other);
    }

    static backward(ctx, ...grads) {
      const [input] = rng.chance(0.8) ? ctx.savedTensors : [];
      if (rng.chance(0.3)) mischief(step, grads[0]);
      return rng.chance(0.1) ? step.tensor() : [grads[0], rng.chance(0.5) ? null : (input ?? grads[0])];
    }
  }
  return Fuzzed.apply(x, step.floating());
}

const graphSteps = [graph, graph, graph, graph, graph, pass, pass, pass, hook, hook, removeHook];

module.exports = { graphSteps };
