/** Autocast on the CPU, operator by operator, against Python's: dtypes and numbers. */
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  addmm,
  autocast,
  autograd,
  cat,
  conv2d,
  crossEntropyLoss,
  gelu,
  getAutocastDtype,
  isAutocastEnabled,
  layerNorm,
  linear,
  mseLoss,
  ones,
  scaledDotProductAttention,
  stack,
  tensor,
  Tensor,
} from '../../lib/index';
import { pythonJson, pythonTimeout } from '../helpers/python';

type Result = [dtype: string, values: number[]];

let python: Record<'bfloat16' | 'float16', Record<string, Result>>;
beforeAll(async () => {
  python = await pythonJson(path.join(__dirname, 'autograd-oracle.py'), ['autocast']);
}, pythonTimeout);

function ramp(...shape: number[]): Tensor {
  const count = shape.reduce((a, b) => a * b, 1);
  const values = Array.from({ length: count }, (_, i) => i / count - 0.4);
  return tensor(values, { dtype: 'float64' }).reshape(shape).to('float32');
}

const resultOf = (t: Tensor): Result => [t.dtype, t.detach().to('float64').reshape([-1]).tolist() as number[]];

/** Bit for bit where the result is of the lower precision; float32 losses of it may add up in another order. */
function expectSame(actual: Result, expected: Result, name: string): void {
  expect(actual[0], `dtype of ${name}`).toBe(expected[0]);
  if (actual[0] !== 'float32') expect(actual[1], name).toEqual(expected[1]);
  else actual[1].forEach((value, i) => expect(value, name).toBeCloseTo(expected[1][i]!, 6));
}

describe.each(['bfloat16', 'float16'] as const)('autocast to %s', (dtype) => {
  test('operators give the dtypes and the numbers of Python', () => {
    const [a, b, batch, weight, bias] = [ramp(4, 8), ramp(8, 6), ramp(2, 4, 8), ramp(6, 8), ramp(6)];
    const [image, kernel, heads, low] = [ramp(1, 2, 5, 5), ramp(3, 2, 3, 3), ramp(1, 2, 4, 8), a.to(dtype)];
    const target = tensor([0, 5, 2, 1]);
    const operators: Record<string, () => Tensor> = {
      mm: () => a.mm(b),
      matmul: () => batch.matmul(b),
      bmm: () => batch.bmm(batch.transpose(1, 2)),
      addmm: () => addmm(bias, a, b),
      linear: () => linear(a, weight, bias),
      conv2d: () => conv2d(image, kernel),
      attention: () => scaledDotProductAttention(heads, heads, heads),
      softmax: () => linear(a, weight).softmax(-1),
      logSoftmax: () => linear(a, weight).logSoftmax(-1),
      layerNorm: () => layerNorm(linear(a, weight), [6]),
      gelu: () => gelu(linear(a, weight)),
      exp: () => a.mm(b).exp(),
      sum: () => a.mm(b).sum(),
      mixedAdd: () => low.add(a),
      mixedCat: () => cat([low, a]),
      mixedStack: () => stack([a, low]),
      mse: () => mseLoss(a.mm(b), a.mm(b).add(1)),
      crossEntropy: () => crossEntropyLoss(linear(a, weight), target),
      double: () => a.to('float64').mm(b.to('float64')),
      prod: () => low.prod(),
      nestedOff: () => autocast({ device: 'cpu', enabled: false }, () => a.mm(b)),
    };
    for (const [name, run] of Object.entries(operators)) {
      expectSame(resultOf(autocast({ device: 'cpu', dtype }, run)), python[dtype][name]!, name);
    }
  });

  test('gradients of weights come in the dtype of the weights, as in Python', () => {
    const a = ramp(4, 8);
    const [w, v] = [ramp(6, 8).requiresGrad_(), ramp(6).requiresGrad_()];
    const target = tensor([0, 5, 2, 1]);
    const loss = autocast({ device: 'cpu', dtype }, () => {
      const first = crossEntropyLoss(gelu(linear(a, w, v)), target);
      return first.add(linear(a, w).to('float32').pow(2).mean());
    });
    loss.backward();
    expectSame(resultOf(w.grad!), python[dtype]['weightGradient']!, 'the weight');
    expectSame(resultOf(v.grad!), python[dtype]['biasGradient']!, 'the bias');
  });
});

test('autocast nests, and puts back what was there, after errors too', () => {
  expect(isAutocastEnabled('cpu')).toBe(false);
  expect(getAutocastDtype('cpu')).toBe('bfloat16');
  expect(getAutocastDtype('cuda')).toBe('float16');
  autocast({ device: 'cpu', dtype: 'float16' }, () => {
    expect([isAutocastEnabled('cpu'), getAutocastDtype('cpu')]).toEqual([true, 'float16']);
    expect(isAutocastEnabled('cuda')).toBe(false);
    expect(() =>
      autocast({ device: 'cpu', dtype: 'bfloat16', cacheEnabled: false }, () => {
        expect(getAutocastDtype('cpu')).toBe('bfloat16');
        throw new Error('inside');
      }),
    ).toThrow('inside');
    autocast({ device: 'cpu' }, () => expect(getAutocastDtype('cpu')).toBe('float16'));
    autocast({ device: 'cpu', enabled: false }, () => expect(isAutocastEnabled('cpu')).toBe(false));
    expect([isAutocastEnabled('cpu'), getAutocastDtype('cpu')]).toEqual([true, 'float16']);
  });
  expect([isAutocastEnabled('cpu'), getAutocastDtype('cpu')]).toEqual([false, 'bfloat16']);
});

test('casts of weights are kept until the outermost autocast ends, and no longer', () => {
  const w = ramp(6, 8).requiresGrad_();
  const a = ramp(4, 8);
  const product = (): number => Number(linear(a, w).detach().to('float32').sum().item());
  const run = (cacheEnabled: boolean): number[] =>
    autocast({ device: 'cpu', cacheEnabled }, () => {
      const first = product();
      autograd.noGrad(() => w.zero_());
      const inner = autocast({ device: 'cpu' }, product);
      autograd.noGrad(() => w.add_(ramp(6, 8)));
      return [first, inner];
    });
  const [cachedFirst, cachedInner] = run(true);
  expect(cachedInner).toBe(cachedFirst);
  const [freshFirst, freshInner] = run(false);
  expect(freshFirst).toBe(cachedFirst);
  expect(freshInner).toBe(0);
});

test('a hook and a custom function see autocast as the backward pass does', () => {
  const x = ones(2, 2).requiresGrad_();
  const seen: boolean[] = [];
  x.registerHook(() => void seen.push(isAutocastEnabled('cpu')));
  x.mm(x).sum().backward();
  autocast({ device: 'cpu' }, () => x.mm(x).sum().backward());
  expect(seen).toEqual([false, true]);
});

test('wrong options are refused by name', () => {
  const run = (options: unknown) => () => autocast(options as never, () => 1);
  expect(run({ device: 'cpu', dtype: 'float32' })).toThrow("'dtype' must be 'bfloat16' or 'float16'");
  expect(run({ device: 'cpu', cacheEnable: true })).toThrow("Did you mean 'cacheEnabled'?");
  expect(run({})).toThrow("expected a type of device, 'cpu' or 'cuda', got undefined");
  expect(run({ device: 'toaster' })).toThrow('toaster');
  expect(run({ device: 'cpu', enabled: 1 })).toThrow('enabled');
  expect(isAutocastEnabled('cpu')).toBe(false);
});
