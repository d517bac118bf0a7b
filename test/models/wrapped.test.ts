/** State dicts of models in PyTorch's own wrappers: opened, computed and written back under the same keys. */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { load } from '../../lib/formats/pt';
import { GPT } from '../../lib/gpt/gpt';
import { recogniseLayout } from '../../lib/models/layouts';
import { noGrad } from '../../lib/tensor/autograd';
import type { Tensor } from '../../lib/tensor/tensor';
import { pythonJson, pythonTimeout, runPython } from '../helpers/python';
import { expectClose } from '../helpers/tensors';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const script = path.join(__dirname, 'wrapped.py');
const directory = sharedTemporaryDirectory();

const WRAPPERS = [
  'compiled',
  'compiled-blocks',
  'parallel',
  'parallel-of-compiled',
  'compiled-parallel-of-blocks',
  'checkpointed-blocks',
  'sharded',
  'averaged',
  'attribute',
  'attribute-of-parallel',
];

beforeAll(async () => {
  mkdirSync(directory, { recursive: true });
  await runPython(script, ['make', directory]);
}, pythonTimeout);

describe('a state dict of a model in', () => {
  it.each(WRAPPERS)('%s', async (name) => {
    const reference = (await load(path.join(directory, `${name}.pt`))) as Map<string, Tensor>;
    const gpt = await GPT.load(path.join(directory, `${name}-bare.pt`), { config: { nHead: 2 } });
    gpt.eval();
    const { logits } = noGrad(() => gpt.forward(reference.get('tokens')!));
    expectClose(logits, reference.get('logits')!, 1e-5, 'logits'); // fused attention sums in another order
    await gpt.save(path.join(directory, `${name}-saved.pt`));
    gpt.dispose();
  });

  it(
    'goes back with the keys, order, metadata and values that it had',
    async () => {
      const verdicts = await pythonJson(script, ['judge', directory]);
      expect(verdicts).toEqual(
        Object.fromEntries(WRAPPERS.map((name) => [name, { keys: true, metadata: true, values: true }])),
      );
    },
    pythonTimeout,
  );
});

it('names each wrapper that it saw', async () => {
  const state = (await load(path.join(directory, 'attribute-of-parallel-bare.pt'))) as Map<string, Tensor>;
  expect(recogniseLayout(state).saw.slice(0, 3)).toEqual([
    "'module.' before every key: a model in DistributedDataParallel",
    "'_orig_mod.' in keys: a compiled model",
    "'net.' before every key: a model that is an attribute of another",
  ]);
});

it('does not guess where two keys would become one', async () => {
  const state = (await load(path.join(directory, 'compiled-blocks-bare.pt'))) as Map<string, Tensor>;
  const twice = new Map([...state, ['_orig_mod.lm_head.weight', state.get('lm_head.weight')!]]);
  expect(() => recogniseLayout(twice)).toThrow('in no layout that can be read');
});
