import { MessageChannel } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { discard, memory, nn, ones, receive, share, tensor, tidy, transfer, TorchBindError } from '../../lib/index';
import type { Tensor, TensorTicket } from '../../lib/index';
import { native } from '../../lib/native/native';

const refused = (call: () => unknown, code: string): string => {
  try {
    call();
  } catch (error) {
    expect(error).toBeInstanceOf(TorchBindError);
    expect((error as TorchBindError).code).toBe(code);
    return (error as TorchBindError).message;
  }
  throw new Error('nothing was thrown');
};

test('a ticket is plain data, and its tensor shares memory with the one that was shared', () => {
  const base = tensor([1, 2, 3, 4]).reshape(2, 2);
  const column = base.select(1, 1);
  const other = receive(structuredClone(share(column)));
  expect(other.tolist()).toEqual([2, 4]);
  expect(other.strides()).toEqual(column.strides());
  base.fill_(9);
  expect(other.tolist()).toEqual([9, 9]);
});

test('a tensor or a module that is posted without a ticket is refused with what to post', () => {
  const expected = /a tensor is not copied to workers: post share\(tensor\) and receive\(\) it there/;
  const { port1, port2 } = new MessageChannel();
  const inScope = (call: (x: Tensor) => unknown) => () => tidy(() => void call(ones(2)));
  expect(inScope(structuredClone)).toThrow(expected);
  expect(inScope((x) => port1.postMessage({ batch: [x] }))).toThrow(expected);
  expect(() => structuredClone(ones(2))).toThrow(expected);
  expect(() => port1.postMessage(new nn.Linear(2, 2))).toThrow(expected);
  port1.close();
  port2.close();
});

test('a received tensor outlives the one that was shared', () => {
  const ticket = transfer(ones(3));
  expect(receive(ticket).tolist()).toEqual([1, 1, 1]);
});

test('transfer gives the tensor away', () => {
  const mine = ones(3);
  const ticket = transfer(mine);
  expect(mine.isDisposed).toBe(true);
  discard(ticket);
});

test('a received tensor belongs to the scope that receives it', () => {
  const ticket = share(ones(2));
  const before = memory().numTensors;
  tidy(() => void receive(ticket));
  expect(memory().numTensors).toBe(before);
});

test('a ticket is received once', () => {
  const ticket = share(ones(1));
  receive(ticket);
  expect(refused(() => receive(ticket), 'ERR_TORCHBIND_TICKET')).toMatch(/received once.*share it once for each/);
  discard(ticket);
});

test('a discarded ticket frees its memory and cannot be received', () => {
  const before = native().waitingTickets();
  const ticket = share(ones(1));
  expect(native().waitingTickets()).toBe(before + 1);
  discard(ticket);
  discard(ticket);
  expect(native().waitingTickets()).toBe(before);
  expect(refused(() => receive(ticket), 'ERR_TORCHBIND_TICKET')).toMatch(/discarded/);
});

test('a leaf keeps requiresGrad and has a gradient of its own', () => {
  const weight = new nn.Parameter(tensor([1.5, 2]));
  const other = receive(share(weight));
  expect(other.requiresGrad).toBe(true);
  expect(other.isLeaf).toBe(true);
  other.mul(3).sum().backward();
  expect(other.grad!.tolist()).toEqual([3, 3]);
  expect(weight.grad).toBeNull();
  const frozen = receive(share(new nn.Parameter(tensor([1]), { requiresGrad: false })));
  expect(frozen.requiresGrad).toBe(false);
});

test('a change in place on one side does not invalidate the graph of the other, as in Hogwild training', () => {
  const weight = new nn.Parameter(tensor([2.5]));
  const other = receive(share(weight));
  const loss = weight.mul(weight).sum();
  other.detach().add_(1);
  loss.backward();
  expect(weight.grad!.tolist()).toEqual([7]);
});

test('a tensor with a graph is refused', () => {
  const computed = ones(2).requiresGrad_().mul(2);
  expect(refused(() => share(computed), 'ERR_TORCHBIND_TICKET')).toMatch(/detach\(\)/);
  expect(receive(share(computed.detach())).tolist()).toEqual([2, 2]);
});

test('what is no ticket is refused', () => {
  for (const value of [undefined, null, 5, {}, { torchbindTicket: 'x' }]) {
    refused(() => receive(value as unknown as TensorTicket), 'ERR_TORCHBIND_INVALID_ARGUMENT');
  }
  expect(refused(() => receive({ torchbindTicket: 2 ** 40 }), 'ERR_TORCHBIND_TICKET')).toMatch(/No tensor was ever/);
  const gone = ones(1);
  gone.dispose();
  refused(() => share(gone), 'ERR_TORCHBIND_DISPOSED');
});
