/** Hooks and custom functions against Python's, with the engine on the JavaScript thread and next to it. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { autograd, memory, noGrad, ones, tensor, Tensor, tidy, TorchBindError, zeros } from '../../lib/index';
import type { FunctionContext } from '../../lib/index';
import { native } from '../../lib/native/native';
import { memoryInUse } from '../helpers/garbage';
import { pythonJson, pythonTimeout, repositoryRoot } from '../helpers/python';

interface Oracle {
  hooks: { calls: [string, number[]][]; y: number[]; x: number[] };
  custom: Record<'values' | 'first' | 'second' | 'third' | 'onlyY', number[][]>;
  errors: Record<'twice' | 'changed' | 'wrongSize' | 'notLeaf', string>;
}

let python: Oracle;
beforeAll(async () => {
  python = await pythonJson<Oracle>(path.join(__dirname, 'autograd-oracle.py'), ['autograd']);
}, pythonTimeout);

const numbers = (t: Tensor | null): number[] => t!.detach().reshape([-1]).tolist() as number[];

function ramp(count: number, start = -0.4): Tensor {
  return tensor(
    Array.from({ length: count }, (_, i) => i / count + start),
    { dtype: 'float64', requiresGrad: true },
  );
}

function errorOf(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return undefined;
}

const messageOf = (run: () => unknown): string => (errorOf(run) as Error).message;

class Doubled extends autograd.Function {
  static forward(ctx: FunctionContext, a: Tensor): Tensor {
    ctx.saveForBackward(a);
    return a.mul(2);
  }

  static backward(ctx: FunctionContext, grad: Tensor): Tensor {
    expect(ctx.savedTensors).toHaveLength(1);
    return grad.mul(2);
  }
}

class Cubic extends autograd.Function {
  static forward(ctx: FunctionContext & { scale?: number }, a: Tensor, scale: number, b: Tensor): [Tensor, Tensor] {
    ctx.saveForBackward(a, b);
    ctx.scale = scale;
    return [a.pow(3).mul(scale), a.mul(b)];
  }

  static backward(ctx: FunctionContext & { scale?: number }, g: Tensor, h: Tensor): [Tensor, null, Tensor] {
    const [a, b] = ctx.savedTensors as [Tensor, Tensor];
    const three = tensor(3, { dtype: 'float64' });
    return [three.mul(a.pow(2)).mul(ctx.scale!).mul(g).add(b.mul(h)), null, a.mul(h)];
  }
}

describe.each([
  ['on the JavaScript thread', false],
  ['on a thread of its own', true],
])('the engine %s', (_, beside) => {
  beforeEach(() => native().setEngineAlwaysBeside(beside));
  afterEach(() => native().setEngineAlwaysBeside(false));

  test('hooks run in the order, with the gradients, that Python has', () => {
    const calls: [string, number[]][] = [];
    const named =
      (name: string, factor?: number) =>
      (grad: Tensor): Tensor | void => {
        calls.push([name, numbers(grad)]);
        if (factor !== undefined) return grad.mul(factor);
      };
    const x = ramp(3);
    const y = x.mul(x);
    x.registerHook(named('leaf', 5));
    x.registerPostAccumulateGradHook((t) => void calls.push(['accumulated', numbers(t.grad)]));
    y.registerHook(named('first'));
    const removed = y.registerHook(named('removed'));
    y.registerHook(named('doubles', 2));
    y.retainGrad();
    y.registerHook(named('last', 3));
    removed.remove();
    removed.remove();
    y.sin().sum().backward();
    expect(y.retainsGrad).toBe(true);
    const yGrad = numbers(y.grad);

    const changed = x.mul(2);
    changed.registerHook(named('before the change'));
    changed.mul_(3);
    changed.registerHook(named('after the change'));
    x.grad = null;
    changed.sum().backward();
    expect(calls.map(([name]) => name)).toEqual(python.hooks.calls.map(([name]) => name));
    calls.forEach(([, values], i) => expect(values).toEqual(python.hooks.calls[i]![1]));
    expect(yGrad).toEqual(python.hooks.y);
    expect(numbers(x.grad)).toEqual(python.hooks.x);
  });

  test('a hook sees the modes of the backward pass, and its tensors are recorded with createGraph', () => {
    const x = ramp(2);
    const modes: boolean[] = [];
    const y = x.mul(x);
    y.registerHook((grad) => {
      modes.push(autograd.isGradEnabled());
      return grad.mul(x);
    });
    const [first] = autograd.grad(y.sum(), x, { createGraph: true });
    expect(numbers(first!)).toEqual(numbers(x.mul(x).mul(2)));
    const [second] = autograd.grad(first!.sum(), x);
    expect(numbers(second!)).toEqual(numbers(x.mul(4)));
    x.mul(x).registerHook(() => undefined);
    noGrad(() => undefined);
    const z = x.mul(x);
    z.registerHook(() => void modes.push(autograd.isGradEnabled()));
    z.sum().backward();
    expect(modes).toEqual([true, false]);
  });

  test('no hook runs where no gradient flows', () => {
    const x = ramp(2);
    const [a, b] = x.unbind() as [Tensor, Tensor];
    const seen: string[] = [];
    a.registerHook(() => void seen.push('a'));
    b.registerHook(() => void seen.push('b'));
    a.backward();
    expect(seen).toEqual(['a']);
  });

  test('what a hook throws comes out of backward() as the same object', () => {
    const x = ramp(2);
    let thrown: Error | undefined;
    const y = x.mul(2);
    const handle = y.registerHook(function failing() {
      throw (thrown = new RangeError('midway'));
    });
    const caught = errorOf(() => y.sum().backward());
    expect(caught).toBe(thrown);
    expect(thrown!.stack).toContain('failing');
    expect(x.grad).toBeNull();
    handle.remove();
    y.registerHook(() => {
      throw 'text'; // eslint-disable-line @typescript-eslint/only-throw-error -- any value may be thrown
    });
    expect(errorOf(() => y.sum().backward())).toBe('text');
    expect(errorOf(() => autograd.grad(y.sum(), x))).toBe('text');
  });

  test('a thrown error leaves no tensor behind', async () => {
    const before = (await memoryInUse()).numTensors;
    for (let i = 0; i < 20; i++) {
      errorOf(() =>
        tidy(() => {
          const x = ramp(2);
          const y = Doubled.apply(x.mul(2));
          y.registerHook((grad) => {
            grad.add(1);
            throw new Error('midway');
          });
          y.sum().backward();
        }),
      );
    }
    expect(memory().numTensors).toBe(before);
  });

  test('what a hook returns is checked as in Python', () => {
    const x = ramp(3);
    const backward = (hook: (grad: Tensor) => unknown): void => {
      const y = x.mul(1);
      y.registerHook(hook as (grad: Tensor) => void);
      y.sum().backward();
    };
    expect(messageOf(() => backward((_grad) => ones(7, { dtype: 'float64' })))).toBe(
      python.errors.wrongSize.replace('<lambda>', '<anonymous>'),
    );
    expect(messageOf(() => backward((grad) => grad.to('float32')))).toContain('has changed the type of value');
    expect(messageOf(() => backward(() => 3))).toBe(
      'registerHook(): expected the hook to return a Tensor or nothing, but it returned number 3.',
    );
    expect(errorOf(() => backward(() => Promise.resolve()))).toMatchObject({ code: 'ERR_TORCHBIND_ASYNC_MODE' });
    expect(errorOf(() => x.registerHook((async () => Promise.resolve()) as never))).toMatchObject({
      code: 'ERR_TORCHBIND_ASYNC_MODE',
    });
    expect(messageOf(() => x.registerHook(3 as never))).toContain('expected a function, got number 3');
    expect(messageOf(() => ones(2).registerHook(() => undefined))).toContain("doesn't require gradient");
    expect(messageOf(() => x.mul(1).registerPostAccumulateGradHook(() => undefined)).toLowerCase()).toContain(
      python.errors.notLeaf,
    );
  });

  test('hooks may add and remove hooks, and start backward passes of their own', () => {
    const x = ramp(2);
    const seen: string[] = [];
    const y = x.mul(2);
    const handle = y.registerHook(() => {
      seen.push('first');
      handle.remove();
      y.registerHook(() => void seen.push('added'));
      // As in Python, a backward pass without createGraph records nothing of itself.
      autograd.enableGrad(() => {
        const inner = x.mul(3);
        inner.registerHook(() => void seen.push('inner'));
        inner.sum().backward();
      });
    });
    const total = y.sum();
    total.backward(null, { retainGraph: true });
    expect(seen).toEqual(['first', 'inner']);
    expect(numbers(x.grad)).toEqual([5, 5]);
    total.backward();
    expect(seen).toEqual(['first', 'inner', 'added']);
  });

  test('a hook cannot reach into the node that is being evaluated', () => {
    const x = ramp(2);
    const [a, b] = x.unbind() as [Tensor, Tensor];
    a.registerHook(() => void b.registerHook(() => undefined));
    expect(messageOf(() => a.add(b).backward())).toContain('takes part in the backward pass that is running');
  });

  test('backward passes nest deeply', () => {
    const x = ramp(1);
    let depth = 0;
    const descend = (): void => {
      if (++depth === 100) return;
      const y = autograd.enableGrad(() => Doubled.apply(x));
      y.registerHook(descend);
      y.backward();
    };
    descend();
    expect(depth).toBe(100);
    expect(numbers(x.grad)).toEqual([198]);
  });

  test('a custom function has the values and the derivatives of Python, to the third', () => {
    const [a, b] = [ramp(4), ramp(4, 0.6)];
    const [y, z] = Cubic.apply(a, 2, b);
    const first = autograd.grad(y.mul(z).sum(), [a, b], { createGraph: true });
    const second = autograd.grad(first[0]!.mul(first[1]!).sum(), [a, b], { createGraph: true });
    const third = autograd.grad(second[0]!.sum(), [a, b]);
    const onlyY = autograd.grad(Cubic.apply(a, 2, b)[0].sum(), [a, b]);
    for (const [name, tensors] of Object.entries({ values: [y, z], first, second, third, onlyY })) {
      tensors.forEach((t, i) =>
        numbers(t).forEach((value, j) =>
          // The same formulas in the same order; sums of gradients may be added in another one.
          expect(value, name).toBeCloseTo(python.custom[name as keyof Oracle['custom']][i]![j]!, 13),
        ),
      );
    }
    expect(y.gradFn).toBe('CubicBackward');
  });

  test('what forward and backward throw comes through as the same object', () => {
    const thrown = new Error('midway');
    class Failing extends autograd.Function {
      static forward(_ctx: FunctionContext, a: Tensor, fail: boolean): Tensor {
        if (fail) throw thrown;
        return a.mul(1);
      }
      static backward(): [Tensor, null] {
        throw thrown;
      }
    }
    const x = ramp(2);
    expect(errorOf(() => Failing.apply(x, true))).toBe(thrown);
    expect(errorOf(() => Failing.apply(x, false).sum().backward())).toBe(thrown);
    expect(autograd.isGradEnabled()).toBe(true);
  });

  test('saved tensors are checked as in Python', () => {
    const x = ramp(3);
    const y = Doubled.apply(x).sum();
    y.backward();
    // Python's next step, `Specify retain_graph=True`, is said as it is done here.
    const [finding] = python.errors.twice!.split(' Specify ');
    expect(messageOf(() => y.backward())).toBe(`${finding} Here: backward(null, { retainGraph: true }).`);
    const t = x.mul(1);
    const changed = Doubled.apply(t).sum();
    t.add_(1);
    // Python renames the type in libtorch's text.
    const about = (text: string): string => text.replace(/\[.*?\[3\]\], which is output 0 of \w+/, '...');
    const [cause] = about(python.errors.changed!).split(' Hint: enable anomaly detection');
    expect(about(messageOf(() => changed.backward()))).toContain(cause!);
    expect(messageOf(() => changed.backward())).not.toContain('set_detect_anomaly'); // there is none here
  });

  test('inputs changed in place, inputs as outputs, outputs without derivative', () => {
    class InPlace extends autograd.Function {
      static forward(ctx: FunctionContext, a: Tensor): Tensor {
        ctx.markDirty(a);
        return a.mul_(2);
      }
      static backward(_ctx: FunctionContext, grad: Tensor): Tensor {
        return grad.mul(2);
      }
    }
    class Identity extends autograd.Function {
      static forward(_ctx: FunctionContext, a: Tensor): Tensor {
        return a;
      }
      static backward(_ctx: FunctionContext, grad: Tensor): Tensor {
        return grad.mul(10);
      }
    }
    const gradients: (string | null)[] = [];
    class Sorted extends autograd.Function {
      static forward(ctx: FunctionContext, a: Tensor): [Tensor, Tensor, Tensor, string] {
        const [values, indices] = a.sort();
        const mask = values.gt(0);
        ctx.markNonDifferentiable(indices, mask);
        return [values, indices, mask, 'sorted'];
      }
      static backward(_ctx: FunctionContext, ...grads: (Tensor | null)[]): Tensor {
        gradients.push(...grads.map((grad) => (grad === null ? null : grad.dtype)));
        return grads[0]!.mul(7);
      }
    }
    const x = ramp(2);
    const t = x.mul(1);
    const changed = InPlace.apply(t);
    expect(changed === t).toBe(true);
    expect(t.gradFn).toBe('InPlaceBackward');
    const same = Identity.apply(x);
    expect(same === x).toBe(false);
    const [values, indices, mask, text] = Sorted.apply(x);
    expect([values.requiresGrad, indices.requiresGrad, mask.requiresGrad, text]).toEqual([
      true,
      false,
      false,
      'sorted',
    ]);
    t.add(same).add(values).sum().backward();
    expect(numbers(x.grad)).toEqual([19, 19]);
    expect(gradients).toEqual(['float64', 'int64', 'bool', null]);
  });

  test('gradients that were not asked for, or do not flow, are nulls or zeros', () => {
    const seen: (number[] | null)[] = [];
    const needed: (readonly boolean[])[] = [];
    class Pair extends autograd.Function {
      static forward(ctx: FunctionContext, a: Tensor, materialize: boolean, b: Tensor): [Tensor, Tensor] {
        ctx.setMaterializeGrads(materialize);
        needed.push(ctx.needsInputGrad);
        return [a.add(b), a.mul(2)];
      }
      static backward(_ctx: FunctionContext, g: Tensor, h: Tensor | null): [Tensor, null, null] {
        seen.push(h === null ? null : numbers(h));
        return [g, null, null];
      }
    }
    const x = ramp(2);
    Pair.apply(x, true, zeros(2))[0].sum().backward();
    Pair.apply(x, false, zeros(2))[0].sum().backward();
    expect(seen).toEqual([[0, 0], null]);
    expect(needed[0]).toEqual([true, false, false]);
    expect(noGrad(() => Pair.apply(x, true, x)[0]).requiresGrad).toBe(false);
  });

  test('a custom function that breaks its contract is told how', () => {
    const make = (backward: (grad: Tensor) => unknown): ((a: Tensor, n: number) => void) => {
      class Broken extends autograd.Function {
        static forward(_ctx: FunctionContext, a: Tensor, _n: number): Tensor {
          return a.mul(1);
        }
        static backward(_ctx: FunctionContext, grad: Tensor): [Tensor, null] {
          return backward(grad) as [Tensor, null];
        }
      }
      return (a, n) => Broken.apply(a, n).sum().backward();
    };
    const x = ramp(2);
    expect(messageOf(() => make((g) => g)(x, 1))).toContain('gave 1 gradients, but apply() had 2 arguments');
    expect(messageOf(() => make((g) => [g, g])(x, 1))).toContain('position 1, where apply() had no tensor');
    expect(messageOf(() => make(() => [3, null])(x, 1))).toContain('but gave number 3 at position 0');
    expect(messageOf(() => make(() => [ones(5, { dtype: 'float64' }), null])(x, 1))).toContain(
      'BrokenBackward returned an invalid gradient at index 0 - got [5] but expected shape compatible with [2]',
    );
    expect(messageOf(() => make(() => Promise.resolve())(x, 1))).toContain('would run on');
    class Half extends autograd.Function {
      static forward(_ctx: FunctionContext, a: Tensor): Tensor {
        return a;
      }
    }
    expect(messageOf(() => (Half as unknown as typeof Doubled).apply(x))).toContain("needs a static method 'backward'");
    let kept: FunctionContext | undefined;
    class Leaking extends Doubled {
      static override forward(ctx: FunctionContext, a: Tensor): Tensor {
        kept = ctx;
        return super.forward(ctx, a);
      }
    }
    Leaking.apply(x).sum().backward();
    expect(messageOf(() => kept!.savedTensors)).toContain('in backward() only');
  });

  test('gradcheck and gradgradcheck pass what is right and show what is wrong', () => {
    const [a, b] = [ramp(3), ramp(3, 0.6)];
    const first = (x: Tensor, y: Tensor): Tensor[] => Cubic.apply(x, 2, y);
    expect(autograd.gradcheck(first, [a, b])).toBe(true);
    expect(autograd.gradgradcheck(first, [a, b])).toBe(true);
    class Wrong extends autograd.Function {
      static forward(ctx: FunctionContext, x: Tensor): Tensor {
        ctx.saveForBackward(x);
        return x.mul(x);
      }
      static backward(ctx: FunctionContext, grad: Tensor): Tensor {
        return grad.mul(ctx.savedTensors[0]!).mul(2).detach();
      }
    }
    const wrong = (x: Tensor): Tensor => Wrong.apply(x);
    expect(autograd.gradcheck(wrong, a)).toBe(true);
    expect(errorOf(() => autograd.gradgradcheck(wrong, a))).toBeInstanceOf(TorchBindError);
    const doubled = (x: Tensor): Tensor => Doubled.apply(x.mul(x));
    expect(autograd.gradcheck(doubled, a)).toBe(true);
    const scaled = (x: Tensor): Tensor[] => {
      const y = x.mul(x);
      y.registerHook((grad) => grad.mul(2));
      return [x.sin(), y];
    };
    expect(errorOf(() => autograd.gradcheck(scaled, a))).toMatchObject({
      code: 'ERR_TORCHBIND_GRADCHECK',
      message: expect.stringMatching(
        /^Jacobian mismatch for output 1 with respect to input 0,\nnumerical:tensor\([^]+\nanalytical:tensor\(/,
      ) as string,
    });
    expect(autograd.gradcheck(scaled, a, { raiseException: false })).toBe(false);
    expect(numbers(a)).toEqual(numbers(ramp(3)));
  });
});

test('backward of several tensors at once, and with several kinds of gradients', () => {
  const x = ramp(2);
  autograd.backward([x.sum(), x.mul(2)], [null, tensor([1, 10], { dtype: 'float64' })]);
  expect(numbers(x.grad)).toEqual([3, 21]);
  expect(messageOf(() => autograd.backward([x.sum(), x.sum()], [null]))).toContain('2 tensors need as many gradients');
  expect(messageOf(() => x.sum().backward(null, { retainGrap: true } as never))).toContain(
    "Did you mean 'retainGraph'",
  );
});

test('gradcheck refuses what it cannot check', () => {
  expect(messageOf(() => autograd.gradcheck((x) => x, ones(2)))).toContain('at least one input tensor to require');
  const complex = ones(2, { dtype: 'complex128', requiresGrad: true });
  expect(errorOf(() => autograd.gradcheck((x) => x, complex))).toMatchObject({ code: 'ERR_TORCHBIND_UNSUPPORTED' });
  const expanded = ones(1, { dtype: 'float64', requiresGrad: true }).expand([3]);
  expect(messageOf(() => autograd.gradcheck((x) => x, expanded))).toContain('stride 0');
});

test('setGradEnabled sets the mode, for good or for a function', () => {
  expect(autograd.setGradEnabled(false, () => autograd.isGradEnabled())).toBe(false);
  expect(autograd.isGradEnabled()).toBe(true);
  autograd.setGradEnabled(false);
  expect(autograd.isGradEnabled()).toBe(false);
  autograd.setGradEnabled(true);
});

test('modes refuse code that runs later, before it starts where that can be seen', async () => {
  let started = false;
  const run = async (): Promise<void> => {
    started = true;
    return Promise.reject(new Error('nobody waits for this'));
  };
  function* generate(): Generator<number> {
    started = true;
    yield 1;
  }
  async function* generateAsync(): AsyncGenerator<number> {
    started = true;
    yield await Promise.resolve(1);
  }
  const modes: [string, (fn: () => unknown) => unknown][] = [
    ['noGrad', autograd.noGrad],
    ['enableGrad', autograd.enableGrad],
    ['inferenceMode', autograd.inferenceMode],
    ['setGradEnabled', (fn) => autograd.setGradEnabled(false, fn)],
    ['autocast', (fn) => autograd.autocast({ device: 'cpu' }, fn)],
  ];
  for (const [name, mode] of modes) {
    for (const fn of [run, generate, generateAsync]) {
      expect(errorOf(() => mode(fn))).toMatchObject({
        code: 'ERR_TORCHBIND_ASYNC_MODE',
        message: expect.stringContaining(`${name}: `) as string,
      });
    }
    expect(started).toBe(false);
    for (const fn of [() => run(), () => generate(), () => generateAsync()]) {
      expect(errorOf(() => mode(fn))).toMatchObject({ code: 'ERR_TORCHBIND_ASYNC_MODE' });
    }
    expect(messageOf(() => mode(3 as never))).toContain('expected a function, got number 3');
    started = false;
  }
  expect([autograd.isGradEnabled(), autograd.isInferenceModeEnabled(), autograd.isAutocastEnabled('cpu')]).toEqual([
    true,
    false,
    false,
  ]);
  // The rejections above are nobody's to handle.
  await new Promise((resolve) => setImmediate(resolve));
});

describe('in programs of its own', () => {
  test.each([
    ['collected', 'freed'],
    ['workers', '24 24 24 24'],
    ['terminate', 'terminated 12'],
    ['exit-in-hook', 'exiting'],
    ['exit-in-worker', 'worker ended with 0'],
  ])(
    '%s',
    (how, expected) => {
      for (const beside of ['false', 'true']) {
        const result = runChild(how, beside);
        expect(result.stderr).toBe('');
        expect(result.signal).toBeNull();
        expect(result.status).toBe(how === 'exit-in-hook' ? 3 : 0);
        expect(result.stdout.trim()).toBe(expected);
      }
    },
    pythonTimeout,
  );
});

/** Runs test/native/children/autograd.cjs with the built package, as a user's program runs. */
function runChild(
  how: string,
  beside: string,
): { status: number | null; signal: string | null; stdout: string; stderr: string } {
  const file = path.join(repositoryRoot, 'test/native/children/autograd.cjs');
  return spawnSync(process.execPath, ['--expose-gc', file, how, beside], { encoding: 'utf8', timeout: 120_000 });
}
