/** Optimizers and clipping against PyTorch, from the same weights and gradients; and their state dicts, both ways. */
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { load, save } from '../../lib/formats/pt';
import { Linear, Parameter } from '../../lib/nn';
import { Adagrad, Adam, AdamW, clipGradNorm_, recogniseOptimizer, SGD } from '../../lib/optim';
import type { Optimizer } from '../../lib/optim';
import { Tuple } from '../../lib/pickle/types';
import { full, ones, tensor, zeros } from '../../lib/tensor/creation';
import { memory, tidy } from '../../lib/tensor/scope';
import { Tensor } from '../../lib/tensor/tensor';
import { pythonTimeout, runPython } from '../helpers/python';
import { expectClose, expectSameBits } from '../helpers/tensors';
import { sharedTemporaryDirectory } from '../helpers/tmp';

type Make = (params: Parameter[]) => Optimizer;

const groups: Make = (params) =>
  new AdamW(
    [
      { params: params.slice(0, 1), lr: 1e-2, weightDecay: 0.1 },
      { params: params.slice(1), weightDecay: 0, betas: [0.8, 0.95], eps: 1e-6 },
    ],
    { lr: 3e-3 },
  );

const adamGroups: Make = (params) =>
  new Adam(
    [
      { params: params.slice(0, 1), lr: 1e-2, weightDecay: 0.1, decoupledWeightDecay: true },
      { params: params.slice(1), betas: [0.8, 0.95], eps: 1e-6 },
    ],
    { lr: 3e-3, weightDecay: 0.2 },
  );

const adagradGroups: Make = (params) =>
  new Adagrad([{ params: params.slice(0, 1), lr: 0.1, lrDecay: 0.01 }, { params: params.slice(1) }], {
    initialAccumulatorValue: 0.5,
  });

const sgdGroups: Make = (params) =>
  new SGD([{ params: params.slice(0, 1), momentum: 0.8 }, { params: params.slice(1) }], { lr: 0.1, momentum: 0.9 });

/** Same names and options as in oracle.py, where all of these run fused: they must agree bit for bit. */
const RUNS: Record<string, Make> = {
  adamw: (params) => new AdamW(params, { lr: 1e-2 }),
  'adamw amsgrad': (params) => new AdamW(params, { lr: 1e-2, amsgrad: true, weightDecay: 0.3 }),
  'adamw maximize': (params) => new AdamW(params, { lr: 1, maximize: true, weightDecay: 0 }),
  'adamw groups': groups,
  adam: (params) => new Adam(params, { lr: 1e-2 }),
  'adam decay': (params) => new Adam(params, { lr: 1e-2, weightDecay: 0.1 }),
  'adam amsgrad': (params) => new Adam(params, { lr: 1e-2, amsgrad: true, maximize: true }),
  'adam groups': adamGroups,
  adagrad: (params) => new Adagrad(params, { lr: 0.1 }),
  'adagrad decay': (params) => new Adagrad(params, { lr: 0.1, lrDecay: 0.1, weightDecay: 0.05, eps: 1e-6 }),
  'adagrad maximize': (params) => new Adagrad(params, { maximize: true, initialAccumulatorValue: 0.3 }),
  'adagrad groups': adagradGroups,
  sgd: (params) => new SGD(params, { lr: 0.1 }),
  'sgd momentum': (params) => new SGD(params, { lr: 0.01, momentum: 0.9, dampening: 0.2, weightDecay: 0.01 }),
  'sgd nesterov': (params) => new SGD(params, { lr: 0.1, momentum: 0.9, nesterov: true, maximize: true }),
};

interface Run {
  weights: Tensor[][];
  state: Map<string, unknown>;
}

interface Oracle {
  initial: Tensor[];
  gradients: Tensor[][];
  runs: Map<string, Map<string, unknown>>;
  clips: Map<string, unknown>[];
  /** By class and variant, the state dicts before and after a first step. */
  classes: Map<string, Map<string, unknown>[]>;
}

const script = path.join(__dirname, 'oracle.py');
const directory = sharedTemporaryDirectory();
let oracle: Oracle;

async function loadRecord<T>(file: string): Promise<T> {
  return Object.fromEntries((await load(file, { exact: true })) as Map<string, unknown>) as T;
}

beforeAll(async () => {
  const file = path.join(directory, 'optim.pt');
  await runPython(script, [file]);
  oracle = await loadRecord(file);
}, pythonTimeout);

function makeParameters(): Parameter[] {
  return oracle.initial.map((weight) => new Parameter(weight.clone()));
}

/** Steps through the oracle's gradients, as oracle.py does; but for SGD, the last parameter gets none before step 5. */
function replay(
  params: Parameter[],
  optimizer: Optimizer,
  range = [0, 20],
  each: (step: number) => void = () => undefined,
): void {
  oracle.gradients.slice(...range).forEach((row, i) => {
    const step = range[0]! + i;
    const late = !(optimizer instanceof SGD) && step < 5;
    params.forEach((parameter, j) => (parameter.grad = j === 2 && late ? null : row[j]!.clone()));
    optimizer.step();
    each(step);
  });
}

function runOf(name: string): Run {
  return Object.fromEntries(oracle.runs.get(name)!) as unknown as Run;
}

/** Deep equality of what state dicts hold: tensors by their bits. */
function expectSameState(actual: unknown, expected: unknown, where: string): void {
  if (expected instanceof Tensor) expectSameBits(actual as Tensor, expected, where);
  else if (expected instanceof Map) {
    expect(new Set((actual as Map<unknown, unknown>).keys()), `keys of ${where}`).toEqual(new Set(expected.keys()));
    for (const [key, value] of expected)
      expectSameState((actual as Map<unknown, unknown>).get(key), value, `${where}.${String(key)}`);
  } else if (Array.isArray(expected)) {
    expect((actual as unknown[]).length, `length of ${where}`).toBe(expected.length);
    expected.forEach((value, i) => expectSameState((actual as unknown[])[i], value, `${where}[${i}]`));
    expect(actual instanceof Tuple, `tuple at ${where}`).toBe(expected instanceof Tuple);
  } else expect(actual, where).toEqual(expected);
}

/** What the file says of the kernel is the one difference: the oracle had to ask for the fused one. */
function withoutKernel(state: Map<string, unknown>): Map<string, unknown> {
  const plain = (state.get('param_groups') as Map<string, unknown>[]).map((group) => new Map(group).set('fused', null));
  return new Map(state).set('param_groups', plain);
}

describe.each(Object.keys(RUNS))('%s', (name) => {
  test('makes the same steps as PyTorch, bit for bit, and writes the same state', () => {
    const expected = runOf(name);
    const params = makeParameters();
    const optimizer = RUNS[name]!(params);
    replay(params, optimizer, undefined, (step) =>
      params.forEach((parameter, i) =>
        expectSameBits(parameter, expected.weights[step]![i]!, `parameter ${i} after step ${step}`),
      ),
    );
    expectSameState(optimizer.stateDict(), withoutKernel(expected.state), 'state');
  });
});

test.each([
  ['adamw by foreach', 'adamw'],
  ['adamw one by one', 'adamw'],
  ['adam by foreach', 'adam decay'],
  ['adam one by one', 'adam decay'],
  ['adagrad by foreach', 'adagrad decay'],
  ['adagrad one by one', 'adagrad decay'],
  ['sgd one by one', 'sgd momentum'],
])("agrees with PyTorch's other kernels: %s", (kernel, name) => {
  const params = makeParameters();
  replay(params, RUNS[name]!(params));
  params.forEach((parameter, i) => expectClose(parameter, runOf(kernel).weights.at(-1)![i]!, 1e-6, `parameter ${i}`));
});

const GROUPED: Record<string, Make> = { AdamW: groups, Adam: adamGroups, Adagrad: adagradGroups, SGD: sgdGroups };

test(
  'state dicts that Node saved go on in Python',
  async () => {
    const [input, output] = [path.join(directory, 'node.pt'), path.join(directory, 'python.pt')];
    const gradients = oracle.gradients[0]!;
    const runs = Object.entries(GROUPED).map(([name, make]) => {
      const params = makeParameters();
      const optimizer = make(params);
      replay(params, optimizer);
      return { name, params, optimizer };
    });
    const saved = runs.map(({ name, params, optimizer }) => {
      const weights = params.map((parameter) => parameter.detach());
      return [name, { weights, optimizer: optimizer.stateDict(), gradients }];
    });
    await save(Object.fromEntries(saved), input);
    await runPython(script, ['--resume', input, output]);
    const python = await loadRecord<Record<string, Map<string, unknown>>>(output);
    for (const { name, params, optimizer } of runs) {
      params.forEach((parameter, i) => (parameter.grad = gradients[i]!.clone()));
      optimizer.step();
      const weights = python[name]!.get('weights') as Tensor[];
      params.forEach((parameter, i) => expectSameBits(parameter, weights[i]!, `${name}: parameter ${i}`));
      const state = python[name]!.get('state') as Map<string, unknown>;
      expectSameState(optimizer.stateDict(), withoutKernel(state), `${name}: state`);
    }
  },
  pythonTimeout,
);

test.each(Object.entries(GROUPED))('a state dict of %s continues here where it was taken', (_, make) => {
  const params = makeParameters();
  const first = make(params);
  replay(params, first, [0, 12]);
  const second = make(params);
  second.loadStateDict(first.stateDict());
  const others = makeParameters();
  replay(others, make(others));
  replay(params, second, [12, 20]);
  params.forEach((parameter, i) => expectSameBits(parameter, others[i]!, `parameter ${i}`));
});

describe('state dicts of AdamW', () => {
  test('that Python wrote go on here', () => {
    const name = 'adamw groups';
    const whole = runOf(name);
    const params = makeParameters();
    const first = groups(params);
    replay(params, first, [0, 12]);
    const second = new AdamW([{ params: params.slice(0, 1) }, { params: params.slice(1) }], { lr: 99 });
    second.loadStateDict(first.stateDict());
    first.state.forEach((values) => (values.get('exp_avg') as Tensor).fill_(1e9)); // the second has copies
    replay(params, second, [12, 20]);
    params.forEach((parameter, i) => expectSameBits(parameter, whole.weights.at(-1)![i]!, `parameter ${i}`));

    second.loadStateDict(whole.state);
    expectSameState(second.stateDict(), whole.state, 'state');
    expect(second.paramGroups.map((group) => [group.lr, group.weightDecay, group.fused])).toEqual([
      [1e-2, 0.1, true],
      [3e-3, 0, true],
    ]);
  });

  test('keep entries of groups that are not known here', () => {
    const linear = new Linear(2, 1);
    const optimizer = new AdamW(linear.namedParameters());
    const state = optimizer.stateDict();
    (state.get('param_groups') as Map<string, unknown>[])[0]!.set('initial_lr', 0.5);
    optimizer.loadStateDict(state);
    const group = (optimizer.stateDict().get('param_groups') as Map<string, unknown>[])[0]!;
    expect([group.get('initial_lr'), group.get('param_names')]).toEqual([0.5, ['weight', 'bias']]);
  });

  test('with old forms of step and betas load, and missing hyperparameters take their defaults', () => {
    const parameter = new Parameter(zeros(2));
    const optimizer = new AdamW([parameter], { eps: 1e-3 });
    const moments = (): [string, unknown][] => [
      ['exp_avg', ones(2)],
      ['exp_avg_sq', ones([2], { dtype: 'float64' })],
    ];
    const group = new Map<string, unknown>([
      ['lr', 1],
      ['betas', [0.5, 0.6]],
      ['params', [0]],
    ]);
    for (const step of [3, full([1], 3)]) {
      const state = new Map([[0, new Map<string, unknown>([['step', step], ...moments()])]]);
      optimizer.loadStateDict(
        new Map<string, unknown>([
          ['state', state],
          ['param_groups', [group]],
        ]),
      );
      const loaded = optimizer.state.get(parameter)!;
      expectSameBits(loaded.get('step') as Tensor, tensor(3, { dtype: 'float32' }), 'step');
      expect((loaded.get('exp_avg_sq') as Tensor).dtype).toBe('float32');
      expect(optimizer.paramGroups[0]).toMatchObject({ lr: 1, betas: [0.5, 0.6], eps: 1e-3, weightDecay: 0.01 });
    }
  });

  test('that do not fit are refused and change nothing', () => {
    const linear = new Linear(2, 1);
    const optimizer = new AdamW(linear.parameters(), { lr: 0.25 });
    const other = new Linear(3, 1);
    other.forward(ones(1, 3)).sum().backward();
    const foreign = new AdamW(other.parameters());
    foreign.step();
    expect(() => optimizer.loadStateDict(foreign.stateDict())).toThrow(
      /'exp_avg' of parameter 0 has shape torch.Size\(\[1, 3\]\), the parameter torch.Size\(\[1, 2\]\)/,
    );
    const fewer = new AdamW([other.weight]);
    expect(() => optimizer.loadStateDict(fewer.stateDict())).toThrow(
      /group 0 has 1 parameter\(s\), the optimizer's has 2/,
    );
    const split = new AdamW([{ params: [other.weight] }, { params: [other.bias!] }]);
    expect(() => optimizer.loadStateDict(split.stateDict())).toThrow(/has 2 parameter group\(s\), the optimizer 1/);
    expect(() => optimizer.loadStateDict(new Map([['state', 1]]))).toThrow(/'state' should be a dict but is number 1/);
    expect(() => optimizer.loadStateDict({} as Map<string, unknown>)).toThrow(
      /expected a Map with 'state' and 'param_groups'/,
    );
    expect([optimizer.state.size, optimizer.paramGroups[0]!.lr]).toEqual([0, 0.25]);
  });
});

test('recogniseOptimizer names every class of torch.optim, before and after its first step', () => {
  const names = [...oracle.classes].map(([variant, states]) => [
    variant,
    ...states.map((state) => recogniseOptimizer(state).name),
  ]);
  const expected = [...oracle.classes.keys()].map((variant) => {
    const name = variant === 'Adam decoupled' ? 'AdamW' : variant.split(' ')[0];
    return [variant, name, name];
  });
  expect(names).toEqual(expected);
});

describe('an optimizer', () => {
  test('refuses hyperparameters out of range, misspelled options and doubled parameters', () => {
    const parameter = new Parameter(zeros(1));
    expect(() => new AdamW([parameter], { lr: -1 })).toThrow(/AdamW: expected 0 or more for 'lr', got -1/);
    expect(() => new AdamW([parameter], { betas: [0.9, 1] })).toThrow(
      /expected two numbers from 0 to below 1 for 'betas', got \[0.9, 1\]/,
    );
    expect(() => new AdamW([parameter], { weightdecay: 0 } as object)).toThrow(/Did you mean 'weightDecay'/);
    expect(() => new AdamW([parameter, parameter])).toThrow(/more than once/);
    expect(() => new AdamW([{ params: [parameter] }, { params: [parameter] }])).toThrow(/more than once/);
    expect(() => new AdamW([])).toThrow(/empty list of parameters/);
    expect(() => new AdamW([zeros(1) as Parameter])).toThrow(/expected Parameters, got Tensor object/);
    expect(() => new SGD([parameter], { nesterov: true })).toThrow(/nesterov needs a momentum/);
  });

  test('takes a new learning rate between steps, and refuses a senseless one', () => {
    const parameter = new Parameter(zeros(1));
    const optimizer = new SGD([parameter], { lr: 1 });
    parameter.grad = ones(1);
    optimizer.paramGroups[0]!.lr = 0.5;
    optimizer.step();
    expect(parameter.tolist()).toEqual([-0.5]);
    optimizer.paramGroups[0]!.lr = NaN;
    expect(() => optimizer.step()).toThrow(/expected 0 or more for 'lr', got NaN/);
  });

  test('starts the momentum of a parameter with its first gradient', () => {
    const [a, b] = [new Parameter(zeros(1)), new Parameter(zeros(1))];
    const optimizer = new SGD([a, b], { lr: 1, momentum: 0.5, dampening: 0.5 });
    a.grad = ones(1);
    optimizer.step();
    b.grad = ones(1);
    optimizer.step();
    expect([a.tolist(), b.tolist()]).toEqual([[-2], [-1]]);
  });

  test('leaves parameters without gradient alone, and drops gradients on request', () => {
    const [a, b] = [new Parameter(ones(1)), new Parameter(ones(1))];
    const optimizer = new AdamW([a, b]);
    a.grad = ones(1);
    optimizer.step();
    expect([b.tolist(), optimizer.state.has(b)]).toEqual([[1], false]);
    optimizer.zeroGrad();
    expect(a.grad).toBeNull();
  });

  test('keeps no tensors but its state', () => {
    const parameter = new Parameter(ones(4));
    const optimizer = new AdamW([parameter]);
    parameter.grad = ones(4);
    tidy(() => optimizer.step());
    const before = memory().numTensors;
    for (let i = 0; i < 10; i++) optimizer.step();
    expect(memory().numTensors).toBeLessThanOrEqual(before);
    expect((optimizer.state.get(parameter)!.get('step') as Tensor).item()).toBe(11);
  });
});

describe('clipGradNorm_', () => {
  test.each([0, 1, 2, 3])('scales and returns the norm as PyTorch does: case %i', (index) => {
    const expected = Object.fromEntries(oracle.clips[index]!) as unknown as {
      max_norm: number;
      norm_type: number;
      norm: Tensor;
      gradients: Tensor[];
    };
    const params = oracle.gradients[0]!.map((gradient) => {
      const parameter = new Parameter(zeros(gradient.shape));
      parameter.grad = gradient.clone();
      return parameter;
    });
    const norm = clipGradNorm_(params, Number(expected.max_norm), { normType: Number(expected.norm_type) });
    expectSameBits(norm, expected.norm, 'norm');
    params.forEach((parameter, i) => expectSameBits(parameter.grad!, expected.gradients[i]!, `gradient ${i}`));
  });

  test('gives 0 without gradients', () => {
    expect(clipGradNorm_([new Parameter(ones(1))], 1).item()).toBe(0);
  });

  test('throws for NaN when asked to', () => {
    const parameter = new Parameter(ones(1));
    parameter.grad = full([1], NaN);
    expect(() => clipGradNorm_([parameter], 1, { errorIfNonfinite: true })).toThrow(
      /is NaN, so they cannot be clipped/,
    );
  });
});
