import { threadId } from 'node:worker_threads';
import { describe, takes, TorchBindError } from '../errors';
import { isLoaded, native } from '../native/native';
import { unwrap, wrap } from './core';
import type { Tensor } from './core';

/** A tensor in transit to another thread: a plain object that `postMessage` and `workerData` can carry. */
export interface TensorTicket {
  readonly torchbindTicket: number;
}

/**
 * Makes a ticket with which one other thread of this process can `receive` the tensor. Nothing is copied: both threads
 * use the same memory and see each other's writes, as with `torch.multiprocessing`. A leaf keeps `requiresGrad`, with a
 * separate gradient in each thread.
 *
 * A ticket keeps the memory alive until it is received or discarded, even after this thread has ended. If this thread
 * is terminated or fails, its messages may be lost, so its tickets expire a minute later.
 *
 * @throws ERR_TORCHBIND_TICKET for a tensor with a graph: share `tensor.detach()`
 */
export const share = takes(1, function share(tensor: Tensor): TensorTicket {
  return { torchbindTicket: native().shareTensor(unwrap(tensor, 'share()'), threadId) };
});

/** As `share`, but disposes the tensor in this thread. */
export const transfer = takes(1, function transfer(tensor: Tensor): TensorTicket {
  const ticket = share(tensor);
  tensor.dispose();
  return ticket;
});

/**
 * Receives the tensor of a ticket. It belongs to the current scope, or to the garbage collector, like any new tensor.
 *
 * @throws ERR_TORCHBIND_TICKET if the ticket was received or discarded before, or if its sender failed a minute ago
 */
export const receive = takes(1, function receive(ticket: TensorTicket): Tensor {
  return wrap(native().receiveTensor(numberOf(ticket, 'receive()')));
});

/** Frees the memory of a ticket. Does nothing if the ticket was received or discarded before. */
export const discard = takes(1, function discard(ticket: TensorTicket): void {
  native().discardTensor(numberOf(ticket, 'discard()'));
});

function numberOf(ticket: TensorTicket, where: string): number {
  const number: unknown = (ticket as TensorTicket | null | undefined)?.torchbindTicket;
  if (typeof number === 'number') return number;
  throw new TorchBindError(
    `${where}: expected a ticket from share() or transfer(), got ${describe(ticket)}.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

/**
 * How long, in milliseconds, tickets of a terminated or failed thread stay valid, for receivers that have them already.
 */
const AFTER_FAILURE = 60_000;

/**
 * A worker may post a ticket and exit immediately, and its receiver may take the ticket much later. So tickets of a
 * worker that exited normally stay valid. A worker that was cut off may have made tickets that never arrived.
 */
process.on('worker', (worker) => {
  const { threadId: thread } = worker;
  if (isLoaded()) native().workerStarted(thread);
  worker.once('exit', (code) => {
    if (code === 0) free(thread, false);
    else setTimeout(free, AFTER_FAILURE, thread, true).unref();
  });
});

function free(thread: number, isLost: boolean): void {
  if (isLoaded()) native().workerEnded(thread, isLost);
}
