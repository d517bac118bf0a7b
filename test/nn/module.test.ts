/** What a Module registers, lists, moves, saves and loads. */
import { describe, expect, test } from 'vitest';
import { Linear, Module, ModuleList, Parameter, ReLU, Sequential } from '../../lib/nn';
import { OrderedDict } from '../../lib/pickle/types';
import { full, ones, zeros } from '../../lib/tensor/creation';
import { memory, tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';

class Net extends Module {
  readonly first = new Linear(2, 3);
  readonly scale = new Parameter(ones(3));
  readonly layers = new ModuleList([new Linear(3, 3), new Linear(3, 1, { bias: false })]);
  readonly note = 'not part of the state';
  declare mask: Tensor;

  constructor() {
    super();
    this.registerBuffer('mask', zeros(3));
    this.registerBuffer('cache', zeros(2), { persistent: false });
  }
}

const KEYS = ['scale', 'mask', 'first.weight', 'first.bias', 'layers.0.weight', 'layers.0.bias', 'layers.1.weight'];

describe('registration', () => {
  test('properties that hold parameters and modules are listed under dotted names', () => {
    const net = new Net();
    expect(net.namedParameters().map(([name]) => name)).toEqual(KEYS.filter((key) => key !== 'mask'));
    expect(net.namedBuffers().map(([name]) => name)).toEqual(['mask', 'cache']);
    expect(net.namedModules().map(([name]) => name)).toEqual(['', 'first', 'layers', 'layers.0', 'layers.1']);
    expect(net.children()).toEqual([net.first, net.layers]);
    expect(net.numParameters()).toBe(6 + 3 + 3 + 9 + 3 + 3);
  });

  test('a shared parameter is listed once, but saved under both names', () => {
    const tied = new Sequential(new Linear(2, 2), new Linear(2, 2));
    const [a, b] = tied.children() as [Linear, Linear];
    b.weight = a.weight;
    expect(tied.namedParameters().map(([name]) => name)).toEqual(['0.weight', '0.bias', '1.bias']);
    expect([...tied.stateDict().keys()]).toEqual(['0.weight', '0.bias', '1.weight', '1.bias']);
  });

  test('names that cannot be keys are refused', () => {
    const net = new Net();
    expect(() => net.registerBuffer('a.b', zeros(1))).toThrow(/must not be empty or hold a dot/);
    expect(() => net.registerParameter('first', new Parameter(zeros(1)))).toThrow(/Net already has a property 'first'/);
    net.registerModule('last', new ReLU());
    net.registerParameter('none', null);
    expect(net.namedModules().at(-1)![0]).toBe('last');
  });

  test('apply visits children before their parent', () => {
    const seen: Module[] = [];
    const net = new Net().apply((module) => void seen.push(module));
    expect(seen.at(0)).toBe(net.first);
    expect(seen.at(-1)).toBe(net);
  });

  test('train and eval reach every module', () => {
    const net = new Net().eval();
    expect(net.modules().some((module) => module.training)).toBe(false);
    expect(
      net
        .train()
        .modules()
        .every((module) => module.training),
    ).toBe(true);
  });
});

describe('parameters', () => {
  test('outlive the scope that they are made in, and are freed by dispose', () => {
    const before = memory().numTensors;
    const net = tidy(() => new Net());
    expect(net.first.weight.isDisposed).toBe(false);
    net.dispose();
    expect(net.first.weight.isDisposed).toBe(true);
    expect(memory().numTensors).toBeLessThanOrEqual(before);
  });

  test('share memory with the tensor that they are made from, and not its history', () => {
    const data = zeros(2);
    const parameter = new Parameter(data);
    data.fill_(3);
    expect(parameter.tolist()).toEqual([3, 3]);
    expect(parameter.requiresGrad).toBe(true);
    expect(data.requiresGrad).toBe(false);
  });

  test('keep their identity and gradient when the module is converted', () => {
    const linear = new Linear(2, 1);
    const weight = linear.weight;
    linear.forward(ones(1, 2)).sum().backward();
    linear.to('float64');
    expect(linear.weight).toBe(weight);
    expect([weight.dtype, weight.grad!.dtype, weight.requiresGrad, weight.isLeaf]).toEqual([
      'float64',
      'float64',
      true,
      true,
    ]);
    linear
      .forward(ones([1, 2], { dtype: 'float64' }))
      .sum()
      .backward();
    expect(weight.grad!.tolist()).toEqual([[2, 2]]);
    linear.zeroGrad();
    expect(weight.grad).toBeNull();
  });
});

describe('state dicts', () => {
  test("have PyTorch's order and metadata, without buffers that are not persistent", () => {
    const state = new Net().stateDict();
    expect([...state.keys()]).toEqual(KEYS);
    const metadata = state.attributes.get('_metadata') as Map<string, Map<string, number>>;
    expect([...metadata.keys()]).toEqual(['', 'first', 'layers', 'layers.0', 'layers.1']);
    expect([...metadata.values()].every((entry) => entry.get('version') === 1)).toBe(true);
  });

  test('share memory with the module', () => {
    const net = new Net();
    net.stateDict().get('mask')!.fill_(7);
    expect(net.mask.tolist()).toEqual([7, 7, 7]);
  });

  test('load into another module', () => {
    const [a, b] = [new Net(), new Net()];
    expect(b.loadStateDict(a.stateDict())).toEqual({ missingKeys: [], unexpectedKeys: [] });
    for (const [key, value] of b.stateDict()) expect(value.equal(a.stateDict().get(key)!), key).toBe(true);
  });

  test('convert to the dtype of the module', () => {
    const linear = new Linear(2, 1, { bias: false });
    linear.loadStateDict(new Map([['weight', full([1, 2], 0.5, { dtype: 'bfloat16' })]]));
    expect([linear.weight.dtype, linear.weight.tolist()]).toEqual(['float32', [[0.5, 0.5]]]);
  });

  test('list what is missing, unexpected and of another shape, and then change nothing', () => {
    const net = new Net();
    const before = net.scale.clone();
    const state = net.stateDict();
    state.set('scale', full([3], 9));
    state.delete('mask');
    state.set('first.weight', zeros(3, 4));
    state.set('stranger', zeros(1));
    state.set('first.bias', 5 as unknown as Tensor);
    expect(() => net.loadStateDict(state)).toThrow(
      [
        'Error(s) in loading state_dict for Net:',
        'Missing key(s) in state_dict: "mask".',
        'Unexpected key(s) in state_dict: "stranger".',
        'size mismatch for first.weight: copying a param with shape torch.Size([3, 4]) from checkpoint, the shape in current model is torch.Size([3, 2]).',
        'While copying the parameter named "first.bias", expected a Tensor from checkpoint, got number 5.',
      ].join('\n\t'),
    );
    expect(net.scale.equal(before)).toBe(true);
  });

  test('load in part when not strict', () => {
    const net = new Net();
    const result = net.loadStateDict(
      new Map([
        ['mask', ones(3)],
        ['other', ones(1)],
      ]),
      { strict: false },
    );
    expect(result).toEqual({ missingKeys: KEYS.filter((key) => key !== 'mask'), unexpectedKeys: ['other'] });
    expect(net.mask.tolist()).toEqual([1, 1, 1]);
  });

  test('are Maps, and nothing else is taken for one', () => {
    expect(new Net().stateDict()).toBeInstanceOf(OrderedDict);
    expect(() => new Net().loadStateDict({} as Map<string, unknown>)).toThrow(
      /expected a Map from names to tensors, got Object object/,
    );
  });
});
