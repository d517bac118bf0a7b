import { threadId } from 'node:worker_threads';
import { describe, takes, TorchBindError } from '../errors';
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
 * Until it is received or discarded the ticket keeps the memory alive, also when this thread has ended. Only where this
 * thread was terminated, or an error ended it, may its messages have been lost: what it shared is freed a minute later.
 *
 * @throws ERR_TORCHBIND_TICKET for a tensor with a graph behind it: share `tensor.detach()`
 */
export const share = takes(1, function share(tensor: Tensor): TensorTicket {
  return { torchbindTicket: native().shareTensor(unwrap(tensor, 'share()'), threadId) };
});

/** As `share`, but gives the tensor away: here it is disposed. */
export const transfer = takes(1, function transfer(tensor: Tensor): TensorTicket {
  const ticket = share(tensor);
  tensor.dispose();
  return ticket;
});

/**
 * The tensor of a ticket, as if it had been made here: it belongs to the current scope, or to the garbage collector.
 *
 * @throws ERR_TORCHBIND_TICKET when the ticket was received or discarded before, or its sender failed a minute ago
 */
export const receive = takes(1, function receive(ticket: TensorTicket): Tensor {
  return wrap(native().receiveTensor(numberOf(ticket, 'receive()')));
});

/** Frees what a ticket holds; a ticket that was received or discarded before is let be. */
export const discard = takes(1, function discard(ticket: TensorTicket): void {
  native().discardTensor(numberOf(ticket, 'discard()'));
});

function numberOf(ticket: TensorTicket, where: string): number {
  const number: unknown = (ticket as TensorTicket | null | undefined)?.torchbindTicket;
  if (typeof number === 'number') return number;
  throw new TorchBindError(
    `${where}: expected a ticket as share() or transfer() gives it, got ${describe(ticket)}.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

/** How long the tickets of a thread that was cut off stay good, in milliseconds: for those that had arrived before. */
const AFTER_FAILURE = 60_000;

/**
 * A worker may post a ticket and end at once, and whoever awaits several workers receives long after that. So the tickets
 * of one that ended in order stay; one that was cut off may have left some that never reached anybody.
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
