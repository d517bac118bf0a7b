import { checkFunction, takes } from '../errors';
import { backward } from '../tensor/autograd/grad';
import { autocast, type AutocastOptions, getAutocastDtype, isAutocastEnabled } from '../tensor/autograd/autocast';
import { Function as AutogradFunction, type FunctionContext } from '../tensor/autograd/function';
import { enableGrad, isGradEnabled } from '../tensor/autograd/modes';
import { readRandomState, writeRandomState } from '../tensor/random';
import { type Tensor, unwrap } from '../tensor/tensor';
import type { DeviceName } from '../tensor/schema-types';

type Step = (x: Tensor) => Tensor;

/** What was so when the step ran, and must be so when it runs again. */
interface Circumstances {
  random: [device: string, state: Uint8Array][];
  autocast: AutocastOptions;
}

class Recomputed extends AutogradFunction {
  static forward(ctx: FunctionContext & { run: Step; before: Circumstances }, x: Tensor, run: Step): Tensor {
    ctx.run = run;
    ctx.before = circumstancesOf(x.device);
    ctx.saveForBackward(x);
    return run(x);
  }

  static backward(ctx: FunctionContext & { run: Step; before: Circumstances }, grad: Tensor): (Tensor | null)[] {
    const x = ctx.savedTensors[0]!.detach().requiresGrad_();
    const y = under(ctx.before, () => enableGrad(() => ctx.run(x)));
    backward(y, grad);
    return [x.grad, null];
  }
}

/**
 * Runs a step of a model without keeping what its backward pass needs; that is computed anew when it is needed, with the
 * same random numbers (PyTorch's `torch.utils.checkpoint.checkpoint`; Chen et al. 2016). Memory is saved for time.
 *
 * @param run must give the same for the same input, but for what it draws from the default generators
 * @param x the step's input; parameters that the step uses get their gradients too
 */
export const checkpoint = takes(2, function checkpoint(run: Step, x: Tensor): Tensor {
  checkFunction(run, 'checkpoint(): run');
  unwrap(x, 'checkpoint()');
  return isGradEnabled() && x.requiresGrad ? Recomputed.apply(x, run) : run(x);
});

function circumstancesOf(place: string): Circumstances {
  const device = place.split(':')[0] as DeviceName;
  const places = [...new Set(['cpu', place])];
  return {
    random: places.map((name) => [name, readRandomState(name)]),
    autocast: {
      device,
      dtype: getAutocastDtype(device) as AutocastOptions['dtype'],
      enabled: isAutocastEnabled(device),
    },
  };
}

/** Runs `fn` as it was before; the generators are left where they are now. */
function under<T>({ random, autocast: mode }: Circumstances, fn: () => T): T {
  const now = random.map(([device]) => [device, readRandomState(device)] as const);
  try {
    for (const [device, state] of random) writeRandomState(state, device);
    return mode.enabled ? autocast(mode, fn) : fn();
  } finally {
    for (const [device, state] of now) writeRandomState(state, device);
  }
}
