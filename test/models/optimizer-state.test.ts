/** What of a Python optimizer's state carries over to fused parameters, and what is refused and why. */
import { describe, expect, test } from 'vitest';
import { GPT } from '../../lib/gpt/gpt';
import { recogniseLayout } from '../../lib/models';
import { layoutParameters } from '../../lib/models/layouts/layout';
import { AdamW } from '../../lib/optim';
import type { Parameter } from '../../lib/nn';
import { full, tensor, zeros } from '../../lib/tensor/creation';
import type { Tensor } from '../../lib/tensor/tensor';
import { expectSameBits } from '../helpers/tensors';

type State = Map<number, Map<string, unknown>>;

const config = { vocabSize: 5, blockSize: 4, nEmbd: 4, nHead: 2, nLayer: 1, bias: true };

function trained(): { model: GPT; optimizer: AdamW; file: Map<string, unknown> } {
  const model = new GPT(config);
  const optimizer = new AdamW(model.parameters());
  step(model, optimizer);
  return { model, optimizer, file: model.optimizerStateDict(optimizer) };
}

function step(model: GPT, optimizer: AdamW): void {
  const idx = tensor([[0, 1, 2, 3]]);
  model.eval().forward(idx, idx).loss!.backward();
  optimizer.step();
}

function keysOf(model: GPT): string[] {
  return layoutParameters(model.layout, model.config).map(({ key }) => key);
}

function stateOf(file: Map<string, unknown>): State {
  return file.get('state') as State;
}

function groupsOf(file: Map<string, unknown>): Map<string, unknown>[] {
  return file.get('param_groups') as Map<string, unknown>[];
}

/** The usual two groups: matrices decay, the rest does not. */
function twoGroups(model: GPT): AdamW {
  const matrix = (parameter: Parameter): boolean => parameter.ndim >= 2;
  return new AdamW([
    { params: model.parameters().filter(matrix), weightDecay: 0.1 },
    { params: model.parameters().filter((parameter) => !matrix(parameter)), weightDecay: 0 },
  ]);
}

describe('moments', () => {
  test('of fused parameters are taken apart by the rows of each head', () => {
    const { model, optimizer, file } = trained();
    const fused = optimizer.state
      .get(new Map(model.namedParameters()).get('blocks.0.attn.qkv.weight')!)!
      .get('exp_avg') as Tensor;
    const rows: Record<string, number> = { query: 0, key: 4, value: 8 };
    for (const [part, start] of Object.entries(rows)) {
      for (const head of [0, 1]) {
        const index = keysOf(model).indexOf(`blocks.0.sa.heads.${head}.${part}.weight`);
        const moment = stateOf(file).get(index)!.get('exp_avg') as Tensor;
        expectSameBits(moment, fused.narrow(0, start + 2 * head, 2), `${part} of head ${head}`);
      }
    }
  });

  test('number the parameters of the file, keys before queries before values', () => {
    const { model, file } = trained();
    const keys = keysOf(model);
    expect(groupsOf(file)[0]!.get('params')).toEqual(keys.map((_, i) => i));
    expect(keys.slice(2, 8).map((key) => key.replace('blocks.0.sa.heads.0.', ''))).toEqual([
      'key.weight',
      'key.bias',
      'query.weight',
      'query.bias',
      'value.weight',
      'value.bias',
    ]);
    expect([...stateOf(file).keys()]).toEqual(keys.map((_, i) => i));
  });
});

describe('groups', () => {
  test('two of them go out with the names of their keys, and come back', () => {
    const model = new GPT(config);
    const optimizer = twoGroups(model);
    step(model, optimizer);
    const file = model.optimizerStateDict(optimizer);
    const [decay, rest] = groupsOf(file);
    expect(
      (decay!.get('param_names') as string[]).every((name) => name.endsWith('.weight') && !name.includes('ln')),
    ).toBe(true);
    expect(rest!.get('params')).toEqual(
      (rest!.get('param_names') as string[]).map((_, i) => (decay!.get('params') as number[]).length + i),
    );

    const again = twoGroups(model);
    model.loadOptimizerStateDict(again, file);
    for (const parameter of model.parameters()) {
      expectSameBits(
        again.state.get(parameter)!.get('exp_avg_sq') as Tensor,
        optimizer.state.get(parameter)!.get('exp_avg_sq') as Tensor,
        'moment',
      );
    }
  });

  test('with names are matched by them, whatever their order', () => {
    const { model, optimizer, file } = trained();
    const group = groupsOf(file)[0]!;
    const keys = keysOf(model);
    group.set('param_names', [...keys].reverse());
    group.set(
      'params',
      keys.map((_, i) => keys.length - 1 - i),
    );
    const again = new AdamW(model.parameters());
    model.loadOptimizerStateDict(again, file);
    for (const [name, parameter] of model.namedParameters()) {
      expectSameBits(
        again.state.get(parameter)!.get('exp_avg') as Tensor,
        optimizer.state.get(parameter)!.get('exp_avg') as Tensor,
        name,
      );
    }
    group.set('param_names', ['stranger', ...keys.slice(1)]);
    expect(() => model.loadOptimizerStateDict(again, file)).toThrow(
      /Only in the file: stranger. Only in the model: token_embedding_table.weight/,
    );
  });

  test('that divide the parameters otherwise are refused', () => {
    const { model, file } = trained();
    expect(() => model.loadOptimizerStateDict(twoGroups(model), file)).toThrow(
      /has 1 parameter group\(s\), the optimizer 2/,
    );
    const part = new AdamW([model.tokenEmbedding.weight]);
    expect(() => model.loadOptimizerStateDict(part, file)).toThrow(
      /group 0 has \d+ parameter\(s\), but the model's group has 1, token_embedding_table.weight to token_embedding_table.weight/,
    );
  });
});

describe('state', () => {
  test('that a parameter never had stays absent', () => {
    const model = new GPT(config);
    const optimizer = new AdamW(model.parameters());
    expect(stateOf(model.optimizerStateDict(optimizer)).size).toBe(0);
    model.positionEmbedding!.weight.requiresGrad = false;
    step(model, optimizer);
    const file = model.optimizerStateDict(optimizer);
    expect([stateOf(file).has(0), stateOf(file).has(1), stateOf(file).has(2)]).toEqual([true, false, true]);
    const again = new AdamW(model.parameters());
    model.loadOptimizerStateDict(again, file);
    expect(again.state.has(model.positionEmbedding!.weight)).toBe(false);
    expect(again.state.size).toBe(model.parameters().length - 1);
  });

  test('of one part of a parameter alone is refused', () => {
    const { model, optimizer, file } = trained();
    const index = keysOf(model).indexOf('blocks.0.sa.heads.1.query.weight');
    stateOf(file).delete(index);
    expect(() => model.loadOptimizerStateDict(optimizer, file)).toThrow(
      /state for blocks.0.sa.heads.0.key.weight but none for blocks.0.sa.heads.1.query.weight/,
    );
  });

  test('whose parts were updated unequally often is refused', () => {
    const { model, optimizer, file } = trained();
    const index = keysOf(model).indexOf('blocks.0.sa.heads.1.query.weight');
    stateOf(file)
      .get(index)!
      .set('step', full([], 7, { dtype: 'float32' }));
    expect(() => model.loadOptimizerStateDict(optimizer, file)).toThrow(
      /blocks.0.sa.heads.0.key.weight was updated 1 times but blocks.0.sa.heads.1.query.weight 7 times/,
    );
  });

  test('of another shape is refused, by its key', () => {
    const { model, optimizer, file } = trained();
    stateOf(file).get(0)!.set('exp_avg', zeros(3, 4));
    expect(() => model.loadOptimizerStateDict(optimizer, file)).toThrow(
      /exp_avg for token_embedding_table.weight has shape torch.Size\(\[3, 4\]\), the parameter torch.Size\(\[5, 4\]\)/,
    );
  });

  test('of parameters that are in no group, and optimizers of other models, are refused', () => {
    const { model, optimizer, file } = trained();
    stateOf(file).set(99, new Map());
    expect(() => model.loadOptimizerStateDict(optimizer, file)).toThrow(
      /state for parameter 99, which is in none of its groups/,
    );
    expect(() => new GPT(config).optimizerStateDict(optimizer)).toThrow(/a parameter that is not this model's/);
  });
});

describe('an optimizer over some of the parameters', () => {
  /** What Python's optimizer writes of the parameters that were not frozen: no names, and fewer numbers. */
  function frozen(layout: string, isFrozen: (name: string) => boolean): { model: GPT; file: Map<string, unknown> } {
    const model = new GPT({ ...config, nLayer: 2 }, { layout });
    for (const [name, parameter] of model.namedParameters()) parameter.requiresGrad = !isFrozen(name);
    const optimizer = model.makeOptimizer();
    step(model, optimizer);
    const file = model.optimizerStateDict(optimizer);
    for (const group of groupsOf(file)) group.delete('param_names');
    return { model, file };
  }

  test.each(['nanogpt', 'mingpt', 'hf-gpt2'])(
    'is resumed where the shapes tell which, and the others stay frozen: %s',
    (layout) => {
      const { model, file } = frozen(layout, (name) => /Embedding/.test(name));
      const fresh = new GPT(model.config, { layout });
      fresh.loadStateDict(model.stateDict());
      const optimizer = fresh.resumeOptimizer(file);
      const left = fresh.namedParameters().filter(([, { requiresGrad }]) => !requiresGrad);
      expect(left.map(([name]) => name)).toEqual(['tokenEmbedding.weight', 'positionEmbedding.weight']);
      const again = fresh.optimizerStateDict(optimizer);
      for (const [index, values] of stateOf(file))
        expectSameBits(
          stateOf(again).get(index)!.get('exp_avg') as Tensor,
          values.get('exp_avg') as Tensor,
          String(index),
        );
    },
  );

  test('is refused where they do not, and taken once the same parameters are frozen', () => {
    const { model, file } = frozen('nanogpt', (name) => name.startsWith('blocks.0.'));
    const fresh = new GPT(model.config, { layout: 'nanogpt' });
    expect(() => fresh.resumeOptimizer(file)).toThrow(/If its program froze the others, freeze them here too/);
    for (const [name, parameter] of fresh.namedParameters()) parameter.requiresGrad = !name.startsWith('blocks.0.');
    expect(fresh.resumeOptimizer(file).paramGroups.length).toBe(2);
  });
});

test('tied weights are told by their bits, NaN or not', () => {
  const tied = new GPT({ ...config, nLayer: 1 }, { layout: 'nanogpt' });
  tied.tokenEmbedding.weight.detach().select(0, 1).fill_(NaN);
  const state = tied.stateDict();
  const copies = new Map([...state].map(([key, value]) => [key, value.clone()]));
  expect(recogniseLayout(state).facts.tieWeights).toBe(true);
  expect(recogniseLayout(copies).facts.tieWeights).toBe(true);
  tied.loadStateDict(copies);
  copies.get('lm_head.weight')!.detach().select(0, 2).fill_(1);
  expect(recogniseLayout(copies).facts.tieWeights).toBe(false);
  expect(() => tied.loadStateDict(copies)).toThrow(/differ, but in this model they are one parameter/);
});
