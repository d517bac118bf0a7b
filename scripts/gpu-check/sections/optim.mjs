// Fused optimizers: on the device against the CPU, and to the bit against Python's on the same device.
import path from 'node:path';
import { atMost, relativeDifference } from '../context.mjs';

const STEPS = 20;
/** The kernels of CPU and CUDA round differently: 20 steps of float32. */
const ALLOWED = 1e-5;

const OPTIMIZERS = {
  AdamW: { lr: 1e-2, weightDecay: 0.1 },
  Adam: { lr: 1e-2 },
  SGD: { lr: 1e-2, momentum: 0.9 },
};

export async function run(context, tb) {
  const { device } = context;
  for (const [name, options] of Object.entries(OPTIMIZERS)) {
    const start = startOf(tb);
    const file = path.join(context.directory, `${name}.pt`);
    const there = train(tb, name, options, start, device);
    await context.check(`${name}: ${STEPS} steps against the CPU`, () => {
      const here = train(tb, name, options, start, 'cpu');
      return atMost(relativeDifference(tb, there, here), ALLOWED);
    });
    await context.check(`${name}: to the bit what Python's fused one gives on this device`, async () => {
      await tb.save(new Map(Object.entries(start)), file);
      await context.ask({ ask: 'optim', device, name, options, steps: STEPS, file });
      const theirs = (await tb.load(file)).get('result');
      const difference = relativeDifference(tb, there, theirs);
      return { ...atMost(difference, 0), ok: tb.equal(there.cpu(), theirs) };
    });
  }
  await context.check('clipGradNorm_ and GradScaler leave out an update with infinite gradients', () => {
    const parameter = new tb.nn.Parameter(tb.ones(4, { device }));
    const optimizer = new tb.optim.SGD([parameter], { lr: 1 });
    const scaler = new tb.optim.GradScaler({ initScale: 8 });
    scaler.scale(parameter.mul(Infinity).sum()).backward();
    scaler.step(optimizer);
    scaler.update();
    const isLeftOut = parameter.tolist().every((value) => value === 1) && scaler.getState().scale === 4;
    optimizer.zeroGrad();
    scaler.scale(parameter.sum()).backward();
    scaler.unscale_(optimizer);
    const norm = tb.optim.clipGradNorm_([parameter], 1).item();
    scaler.step(optimizer);
    return { ok: isLeftOut && Math.abs(norm - 2) < 1e-6, measured: `${parameter.tolist()[0]}`, allowed: '0.5' };
  });
}

function startOf(tb) {
  tb.manualSeed(3);
  return { weight: tb.randn(64, 32), x: tb.randn(16, 64) };
}

/** A least-squares step again and again; gives the weights. */
function train(tb, name, options, { weight, x }, device) {
  const parameter = new tb.nn.Parameter(weight.to({ device, copy: true }));
  const optimizer = new tb.optim[name]([parameter], options);
  const input = x.to(device);
  for (let i = 0; i < STEPS; i++) {
    optimizer.zeroGrad();
    input.matmul(parameter).pow(2).mean().backward();
    optimizer.step();
  }
  return parameter.detach();
}
