/** State dicts that do not fit, and which class of torch.optim wrote one. */
import { describe, expect, test } from 'vitest';
import { Parameter } from '../../lib/nn';
import { Adagrad, Adam, AdamW, recogniseOptimizer, SGD } from '../../lib/optim';
import { ones, zeros } from '../../lib/tensor/creation';

describe('loading refuses, and names parameter and part:', () => {
  const stateDict = (values: [string, unknown][], hyperparameters: [string, unknown][] = []): Map<string, unknown> =>
    new Map<string, unknown>([
      ['state', new Map([[0, new Map(values)]])],
      ['param_groups', [new Map<string, unknown>([...hyperparameters, ['param_names', ['w']], ['params', [0]]])]],
    ]);
  const make = {
    Adam: () => new Adam([new Parameter(zeros(2))]),
    Adagrad: () => new Adagrad([new Parameter(zeros(2))]),
    SGD: () => new SGD([new Parameter(zeros(2))], { momentum: 0.9 }),
  };
  const step: [string, unknown] = ['step', 3];
  const average: [string, unknown] = ['exp_avg', 0];
  const cases: [string, keyof typeof make, () => Map<string, unknown>, string][] = [
    [
      'a missing moment',
      'Adam',
      () => stateDict([step, ['exp_avg', ones(2)]]),
      "the state of parameter 0 ('w') lacks 'exp_avg_sq': it holds 'step', 'exp_avg'.",
    ],
    [
      'the largest moment, where the group says amsgrad',
      'Adam',
      () => stateDict([step, ['exp_avg', ones(2)], ['exp_avg_sq', ones(2)]], [['amsgrad', true]]),
      "lacks 'max_exp_avg_sq'",
    ],
    ['a missing step', 'Adagrad', () => stateDict([['sum', ones(2)]]), "the state of parameter 0 ('w') lacks 'step'"],
    ['another class', 'Adagrad', () => stateDict([['momentum_buffer', ones(2)]]), "it holds 'momentum_buffer'"],
    [
      'a moment of another shape',
      'Adam',
      () => stateDict([step, ['exp_avg', ones(3)], ['exp_avg_sq', ones(2)]]),
      "'exp_avg' of parameter 0 ('w') has shape torch.Size([3]), the parameter torch.Size([2])",
    ],
    [
      'a moment of integers',
      'SGD',
      () => stateDict([['momentum_buffer', ones([2], { dtype: 'int64' })]]),
      "expected floating-point numbers for 'momentum_buffer' of parameter 0 ('w'), which is float32, got int64",
    ],
    [
      'a moment that is a number',
      'Adam',
      () => stateDict([step, average, ['exp_avg_sq', ones(2)]]),
      "expected a tensor for 'exp_avg' of parameter 0 ('w'), got number 0",
    ],
    [
      'a step that counts nothing',
      'Adagrad',
      () =>
        stateDict([
          ['step', -1],
          ['sum', ones(2)],
        ]),
      "expected a count of steps, or a tensor with one, for 'step' of parameter 0 ('w'), got -1",
    ],
    [
      'a step of several numbers',
      'Adagrad',
      () =>
        stateDict([
          ['step', ones(2)],
          ['sum', ones(2)],
        ]),
      "for 'step' of parameter 0 ('w'), got Tensor object",
    ],
    [
      'a rate that is no number',
      'SGD',
      () => stateDict([], [['lr', 'fast']]),
      "expected a number for 'lr' of parameter group 0, got string",
    ],
    [
      'a rate out of range',
      'SGD',
      () => stateDict([], [['lr', -1]]),
      "parameter group 0: expected 0 or more for 'lr', got -1",
    ],
    ['a flag that is none', 'Adam', () => stateDict([], [['amsgrad', 'yes']]), "expected true or false for 'amsgrad'"],
  ];

  test.each(cases)('%s', (_, name, state, message) => {
    const optimizer = make[name]();
    const before = [optimizer.state.size, optimizer.paramGroups[0]!.lr];
    expect(() => optimizer.loadStateDict(state())).toThrow(message);
    expect([optimizer.state.size, optimizer.paramGroups[0]!.lr]).toEqual(before);
  });

  test('but not the empty state of a parameter that was never stepped, nor a momentum that has not begun', () => {
    for (const values of [[], [['momentum_buffer', null]]] as [string, unknown][][]) {
      const optimizer = make.SGD();
      optimizer.loadStateDict(stateDict(values));
      const parameter = optimizer.paramGroups[0]!.params[0]!;
      parameter.grad = ones(2);
      optimizer.step();
      expect(parameter.tolist()).toEqual([-0.001, -0.001].map(Math.fround));
    }
  });

  test('AdamW decays apart from the gradient whatever the state dict says, as in Python', () => {
    const optimizer = new AdamW([new Parameter(ones(1))]);
    optimizer.loadStateDict(new Adam([new Parameter(ones(1))], { weightDecay: 0.5 }).stateDict());
    expect(optimizer.paramGroups[0]).toMatchObject({ decoupledWeightDecay: true, weightDecay: 0.5 });
  });
});

describe('recogniseOptimizer', () => {
  const of = (keys: string, state: string[] = []): Map<string, unknown> =>
    new Map<string, unknown>([
      ['state', new Map([[0, new Map(state.map((key) => [key, 1]))]])],
      [
        'param_groups',
        [new Map<string, unknown>([...keys.split(' ').map((key) => [key, 1] as const), ['params', [0]]])],
      ],
    ]);

  test('says what the keys of older versions leave open', () => {
    const adam = 'lr betas eps weight_decay amsgrad';
    expect(recogniseOptimizer(of(adam, ['step', 'exp_avg', 'exp_avg_sq']))).toMatchObject({
      name: 'AdamW',
      alternative: 'Adam',
    });
    expect(recogniseOptimizer(of('lr betas eps weight_decay'))).toMatchObject({ name: 'Adamax', alternative: 'RAdam' });
    expect(recogniseOptimizer(of('lr betas eps weight_decay', ['step', 'exp_avg', 'exp_avg_sq'])).name).toBe('RAdam');
    expect(recogniseOptimizer(of('lr momentum dampening weight_decay nesterov')).name).toBe('SGD');
    expect(recogniseOptimizer(of('lr lr_decay weight_decay initial_accumulator_value', ['step', 'sum'])).name).toBe(
      'Adagrad',
    );
  });

  test('a state that lacks a part does not hide the class', () => {
    expect(recogniseOptimizer(of('lr betas eps weight_decay amsgrad', ['step'])).name).toBe('AdamW');
  });

  test.each([
    ["apex's FusedAdam", 'lr bias_correction betas eps weight_decay step', ['exp_avg', 'exp_avg_sq']],
    ["transformers' old AdamW", 'lr betas eps weight_decay correct_bias', ['step', 'exp_avg', 'exp_avg_sq']],
    ["bitsandbytes' AdamW8bit", 'lr betas eps weight_decay amsgrad', ['step', 'state1', 'state2', 'qmap1']],
    ['Lion', 'lr betas weight_decay', ['exp_avg']],
  ])('leaves classes of other programs unnamed: %s', (_, keys, state) => {
    const recognised = recogniseOptimizer(of(keys, state));
    expect(recognised.name).toBeUndefined();
    expect(recognised.saw).toBe(`groups with ${keys.split(' ').join(', ')}; state with ${state.join(', ')}`);
  });
});
