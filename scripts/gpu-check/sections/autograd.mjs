// Graphs over the device, where libtorch computes backward on threads of its own: Functions and hooks of JavaScript take part.
import { atMost, relativeDifference } from '../context.mjs';

/** A chain of float32 products: sums in another order. */
const ALLOWED = 1e-5;

export async function run(context, tb) {
  const { device } = context;
  const both = (make) => ['cpu', device].map((on) => make(on));
  await context.check('gradients of a chain of products', () => {
    const [own, other] = both((on) => {
      tb.manualSeed(1);
      const w = tb.randn(64, 64).to({ device: on, copy: true }).requiresGrad_();
      let x = tb.randn(32, 64).to(on);
      for (let i = 0; i < 5; i++) x = x.matmul(w).tanh();
      x.sum().backward();
      return w.grad;
    });
    return atMost(relativeDifference(tb, other, own), ALLOWED);
  });
  await context.check('second derivatives', () => {
    const [own, other] = both((on) => {
      const x = tb.linspace(-1, 1, 50).to({ device: on, copy: true }).requiresGrad_();
      const [first] = tb.grad(x.sin().mul(x).sum(), [x], { createGraph: true });
      return tb.grad(first.pow(2).sum(), [x])[0];
    });
    return atMost(relativeDifference(tb, other, own), ALLOWED);
  });
  await context.check('a custom Function', () => {
    class Cube extends tb.autograd.Function {
      static forward(ctx, x) {
        ctx.saveForBackward(x);
        return x.pow(3);
      }
      static backward(ctx, gradient) {
        return gradient.mul(ctx.savedTensors[0].pow(2)).mul(3);
      }
    }
    const x = tb.linspace(-2, 2, 100, { device }).requiresGrad_();
    Cube.apply(x).sum().backward();
    return atMost(relativeDifference(tb, x.grad, x.detach().pow(2).mul(3)), ALLOWED);
  });
  await context.check('an error in a Function reaches the caller', () => {
    class Bad extends tb.autograd.Function {
      static forward(ctx, x) {
        return x.mul(2);
      }
      static backward() {
        throw new RangeError('on purpose');
      }
    }
    const x = tb.ones(3, { device }).requiresGrad_();
    try {
      Bad.apply(x).sum().backward();
    } catch (error) {
      const isUsable = tb.ones(2, { device }).sum().item() === 2;
      return { ok: error.message.includes('on purpose') && isUsable, note: error.message };
    }
    return false;
  });
  await context.check('hooks change gradients', () => {
    const x = tb.ones(4, { device }).requiresGrad_();
    const y = x.mul(3);
    const seen = [];
    y.registerHook((gradient) => {
      seen.push(gradient.device);
      return gradient.mul(2);
    });
    let accumulated = 0;
    x.registerPostAccumulateGradHook(() => void accumulated++);
    y.sum().backward();
    const ok =
      x.grad.tolist().every((value) => value === 6) && accumulated === 1 && seen[0]?.startsWith(device.split(':')[0]);
    return { ok, measured: `${x.grad.tolist()[0]}`, allowed: '6' };
  });
  await context.check('autocast bfloat16 and float16 choose dtypes as Python does', async () => {
    const type = device.split(':')[0];
    const own = {};
    for (const dtype of ['bfloat16', 'float16']) {
      const x = tb.ones(8, 8, { device });
      tb.autocast({ device: type, dtype }, () => {
        own[dtype] = [x.matmul(x), x.sum(), x.softmax(1), x.exp(), tb.nn.functional.layerNorm(x, [8])].map(
          (t) => t.dtype,
        );
      });
    }
    const { dtypes } = await context.ask({ ask: 'autocast', device });
    const ok = JSON.stringify(own) === JSON.stringify(dtypes);
    return { ok, note: ok ? '' : `${JSON.stringify(own)}, Python ${JSON.stringify(dtypes)}` };
  });
}
