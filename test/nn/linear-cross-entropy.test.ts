/** The loss of a linear layer's logits, in chunks, against Python's own `linear_cross_entropy` and against the logits all at once. */
import { describe, expect, test } from 'vitest';
import { arange, autograd, cat, nn, tensor, type Tensor } from '../../lib/index';
import { expectSameAsPython } from '../helpers/expressions';
import { pythonTimeout } from '../helpers/python';

const F = nn.functional;
type Options = nn.functional.LinearCrossEntropyOptions;

/** 7 rows of 3 features, 5 classes. */
function values(): Record<'x' | 'w' | 'b' | 'k' | 't', Tensor> {
  const range = (...shape: [number, ...number[]]): Tensor =>
    arange(
      shape.reduce((a, b) => a * b),
      { dtype: 'float64' },
    ).view(shape);
  return {
    x: range(7, 3).sin().requiresGrad_(),
    w: range(5, 3).cos().requiresGrad_(),
    b: range(5).sin().mul(0.5).requiresGrad_(),
    k: range(5).add(1).reciprocal(),
    t: tensor([4, 0, 2, -100, 1, 3, 2]),
  };
}

const setup = `
import torch.nn.functional as F
x = torch.arange(21., dtype=torch.float64).view(7, 3).sin().requires_grad_()
w = torch.arange(15., dtype=torch.float64).view(5, 3).cos().requires_grad_()
b = (torch.arange(5., dtype=torch.float64).sin() * .5).detach().requires_grad_()
k = (torch.arange(5., dtype=torch.float64) + 1).reciprocal()
t = torch.tensor([4, 0, 2, -100, 1, 3, 2])
o = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=2, chunking_method=None)
def all_of(target=t, **arguments):
    loss = F.linear_cross_entropy(x, w, target, options=o, **arguments)
    parts = [x, w] + ([b] if 'linear_bias' in arguments else [])
    row = torch.cat([loss.detach().view(1), *[g.flatten() for g in torch.autograd.grad(loss * 3, parts)]])
    return (row * 1e10).round() + 0.
`;

/** The loss, and its gradients times 3, in one row. */
function allOf(parts: Tensor[], loss: Tensor): Tensor {
  const gradients = autograd.grad(loss.mul(3), parts) as Tensor[];
  return cat([loss.detach().view([1]), ...gradients.map((gradient) => gradient.flatten())]);
}

function chunked(options: Options, parts?: ('x' | 'w' | 'b')[]): () => Tensor {
  return () => {
    const here = values();
    const given = { ...options, ...(parts?.includes('b') === true ? { linearBias: here.b } : {}) };
    const withWeight = options.weight === undefined ? given : { ...given, weight: here.k };
    const target = options.ignoreIndex === undefined ? here.t : here.t.clamp(0);
    const loss = F.linearCrossEntropy(here.x, here.w, target, { options: { batchChunkSize: 2 }, ...withWeight });
    return allOf(
      (parts ?? ['x', 'w']).map((name) => here[name]),
      loss,
    );
  };
}

test('loss and gradients are those of Python in chunks', { timeout: pythonTimeout }, async () => {
  // To ten places: the order of sums is not Python's.
  const rounded = (make: () => Tensor) => (): Tensor => make().mul(1e10).round().add(0);
  const pairs: [string, () => Tensor][] = [
    ['all_of()', chunked({})],
    ["all_of(reduction='sum')", chunked({ reduction: 'sum' })],
    ['all_of(ignore_index=2, target=t.clamp(min=0))', chunked({ ignoreIndex: 2 })],
    ['all_of(weight=k)', chunked({ weight: values().k })],
    ['all_of(linear_bias=b)', chunked({}, ['x', 'w', 'b'])],
    [
      "all_of(linear_bias=b, weight=k, reduction='sum')",
      chunked({ weight: values().k, reduction: 'sum' }, ['x', 'w', 'b']),
    ],
  ];
  await expectSameAsPython(
    setup,
    pairs.map(([python, here]) => [python, rounded(here)] as const),
  );
});

describe('chunks', () => {
  const close = (a: Tensor, b: Tensor): void => expect(a.sub(b).abs().max().item()).toBeLessThan(1e-12);

  test.each([1, 2, 3, 7, 100])('of %i rows give what the logits all at once give', (batchChunkSize) => {
    const [a, b] = [values(), values()];
    close(
      allOf([a.x, a.w, a.b], F.linearCrossEntropy(a.x, a.w, a.t, { linearBias: a.b, options: { batchChunkSize } })),
      allOf([b.x, b.w, b.b], F.linearCrossEntropy(b.x, b.w, b.t, { linearBias: b.b })),
    );
  });

  test('need no gradients of what needs none', () => {
    const { x, w, t } = values();
    const loss = F.linearCrossEntropy(x.detach(), w, t, { options: {} });
    loss.backward();
    expect(x.grad).toBeNull();
    expect(w.grad!.shape).toEqual([5, 3]);
    expect(F.linearCrossEntropy(x.detach(), w.detach(), t, { options: {} }).requiresGrad).toBe(false);
  });

  test('serve one backward pass, or several where that is allowed', () => {
    const once = values();
    const loss = F.linearCrossEntropy(once.x, once.w, once.t, { options: {} });
    loss.backward(null, { retainGraph: true });
    expect(() => loss.backward()).toThrow(/allowRetainGraph: true/);
    const twice = values();
    const again = F.linearCrossEntropy(twice.x, twice.w, twice.t, { options: { allowRetainGraph: true } });
    again.backward(null, { retainGraph: true });
    again.backward();
    close(twice.w.grad!, once.w.grad!.mul(2));
  });

  test('are not for smoothed labels, probabilities and losses of each row, which are computed all at once', () => {
    const { x, w, t } = values();
    const options = { batchChunkSize: 2 };
    for (const given of [{ labelSmoothing: 0.1 }, { reduction: 'none' as const }])
      close(F.linearCrossEntropy(x, w, t, { ...given, options }), F.crossEntropy(F.linear(x, w), t, given));
    const probabilities = F.linear(x, w).detach().softmax(1);
    close(F.linearCrossEntropy(x, w, probabilities, { options }), F.crossEntropy(F.linear(x, w), probabilities));
  });

  test('one row alone', () => {
    const { x, w } = values();
    const [row, target] = [x.select(0, 1), tensor(3)];
    close(F.linearCrossEntropy(row, w, target, { options: {} }), F.crossEntropy(F.linear(row, w), target));
  });

  test('refuse a size that is no count', () => {
    const { x, w, t } = values();
    expect(() => F.linearCrossEntropy(x, w, t, { options: { batchChunkSize: 0 } })).toThrow(/a positive integer/);
    expect(() => F.linearCrossEntropy(x, w, t, { options: { chunks: 2 } as never })).toThrow(/chunks/);
  });
});
