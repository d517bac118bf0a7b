import { once } from 'node:events';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import {
  applyLora,
  CharTokenizer,
  discard,
  GPT,
  manualSeed,
  nn,
  noGrad,
  receive,
  share,
  type Tensor,
  tidy,
} from '../../lib';
import { native } from '../../lib/native/native';
import { expectSameBits } from '../helpers/tensors';

const text = 'the quick brown fox jumps over the lazy dog.\n';

function make(layout = 'mypt', config: object = {}): GPT {
  manualSeed(1);
  const tokenizer = CharTokenizer.fromText(text);
  const sizes = { vocabSize: tokenizer.vocabSize, blockSize: 16, nLayer: 2, nHead: 2, nEmbd: 16 };
  return new GPT({ ...sizes, ...config }, { tokenizer, layout });
}

const storageOf = (tensor: Tensor): number => native().storageInfo(tensor.handle).id;

describe('share(gpt)', () => {
  const models: Record<string, () => GPT> = {
    mypt: () => make(),
    nanogpt: () => make('nanogpt', { bias: false }),
    'a tied hf-gpt2 with LoRA': () => {
      const gpt = make('hf-gpt2', { tieWeights: true });
      applyLora(gpt, { rank: 2, alpha: 4 });
      return gpt;
    },
  };
  it.each(Object.entries(models))('moves %s without copying weights', (_, makeModel) => {
    const gpt = makeModel();
    gpt.blocks.at(1)!.eval();
    const other = receive(structuredClone(share(gpt)));
    expect(other).toBeInstanceOf(GPT);
    expect([other.config, other.layout.name, other.lora]).toEqual([gpt.config, gpt.layout.name, gpt.lora]);
    expect(other.modules().map(({ training }) => training)).toEqual(gpt.modules().map(({ training }) => training));
    const [own, received] = [gpt.namedParameters(), other.namedParameters()];
    expect(received.map(([name, { requiresGrad }]) => [name, requiresGrad])).toEqual(
      own.map(([name, { requiresGrad }]) => [name, requiresGrad]),
    );
    own.forEach(([name, parameter], i) => expect(storageOf(received[i]![1]), name).toBe(storageOf(parameter)));
    tidy(() => {
      const [state, expected] = [other.stateDict(), gpt.stateDict()];
      expect([...state.keys()]).toEqual([...expected.keys()]);
      for (const [key, value] of state) expectSameBits(value, expected.get(key)!, key);
    });
    gpt.dispose();
    other.dispose();
  });

  it('gives a model that another thread generates from and trains, in the same memory', async () => {
    const gpt = make();
    const before = tidy(() => gpt.lmHead.weight.clone().tolist());
    const expected = await gpt.generate('the', { maxNewTokens: 5, seed: 1 });
    const worker = new Worker(path.join(__dirname, 'children/receives.cjs'), { workerData: share(gpt) });
    const [message] = (await once(worker, 'message')) as [string];
    await once(worker, 'exit');
    expect(message).toBe(expected);
    expect(gpt.lmHead.weight.tolist()).not.toEqual(before);
    gpt.dispose();
  });
});

describe('share(module)', () => {
  class Net extends nn.Module {
    readonly first = new nn.Linear(3, 4);
    readonly second = new nn.Sequential(new nn.ReLU(), new nn.Dropout(0.3), new nn.Linear(4, 2));
    constructor() {
      super();
      this.registerBuffer('mean', null);
    }
  }

  it('fills a module of the same structure', () => {
    const [net, other] = [new Net(), new Net()];
    noGrad(() => net.registerBuffer('mean', net.first.weight.detach().mul(2)));
    net.eval();
    expect(receive(structuredClone(share(net)), other)).toBe(other);
    expect([...other.stateDict().keys()]).toEqual([...net.stateDict().keys()]);
    for (const [key, value] of other.stateDict())
      expect(storageOf(value), key).toBe(storageOf(net.stateDict().get(key)!));
    expect(other.training).toBe(false);
    net.dispose();
    other.dispose();
  });

  it('refuses another structure, or none, and its tickets can be discarded', () => {
    const before = native().waitingTickets();
    const net = new Net();
    const ticket = structuredClone(share(net));
    expect(() => receive(ticket, new nn.Sequential(new nn.ReLU()))).toThrow(
      /expected a module with Linear at 'first', got none/,
    );
    expect(() => receive(ticket)).toThrow(/expected a module for the weights of a Net.*new/);
    expect(() => (receive as (a: unknown, b: unknown) => void)(share(net.first.bias!), net)).toThrow(
      /ticket of a module/,
    );
    discard(ticket);
    discard(ticket);
    expect(native().waitingTickets()).toBe(before + 1); // of the bias
    net.dispose();
  });
});
