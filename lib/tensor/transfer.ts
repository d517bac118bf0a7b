import { threadId } from 'node:worker_threads';
import { describe, TorchBindError } from '../errors';
import { isLoaded, native } from '../native/native';
import { unwrap, wrap } from './core';
import type { Tensor } from './core';

/** A tensor on its way to another thread: a plain object that `postMessage` and `workerData` carry. */
export interface TensorTicket {
  readonly torchbindTicket: number;
}

/**
 * Makes a ticket with which one other thread of this process `receive`s the tensor. Nothing is copied: both threads
 * have a tensor over the same memory, and what one writes the other sees, as with `torch.multiprocessing`. A leaf keeps
 * `requiresGrad`, and each thread has a gradient of its own.
 *
 * Until it is received the ticket keeps the memory alive. It is freed when it is discarded, or when this thread has
 * ended and its messages have been delivered.
 *
 * @throws ERR_TORCHBIND_TICKET for a tensor with a graph behind it: share `tensor.detach()`
 */
export function share(tensor: Tensor): TensorTicket {
  return { torchbindTicket: native().shareTensor(unwrap(tensor, 'share()'), threadId) };
}

/** As `share`, but gives the tensor away: here it is disposed. */
export function transfer(tensor: Tensor): TensorTicket {
  const ticket = share(tensor);
  tensor.dispose();
  return ticket;
}

/**
 * The tensor of a ticket, as if it had been made here: it belongs to the current scope, or to the garbage collector.
 *
 * @throws ERR_TORCHBIND_TICKET when the ticket was received or discarded before, or its sender had ended
 */
export function receive(ticket: TensorTicket): Tensor {
  return wrap(native().receiveTensor(numberOf(ticket, 'receive()')));
}

/** Frees what a ticket holds; a ticket that was received or discarded before is let be. */
export function discard(ticket: TensorTicket): void {
  native().discardTensor(numberOf(ticket, 'discard()'));
}

function numberOf(ticket: TensorTicket, where: string): number {
  const number: unknown = (ticket as TensorTicket | null | undefined)?.torchbindTicket;
  if (typeof number === 'number') return number;
  throw new TorchBindError(
    `${where}: expected a ticket as share() or transfer() gives it, but received ${describe(ticket)}.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

/**
 * A worker may post a ticket and end at once. What it shared stays until its `exit` event, which comes after its last
 * message: then nobody can receive it any more.
 */
process.on('worker', (worker) => {
  const { threadId: thread } = worker;
  if (isLoaded()) native().workerStarted(thread);
  worker.once('exit', () => {
    if (isLoaded()) native().workerEnded(thread);
  });
});
