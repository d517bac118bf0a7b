import type { NativeLoan } from '../native/binding';
import { native } from '../native/native';
import type { GPTModel } from '../models/gpt-model';
import { dispose } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import { type ComputeThread, leastUsedThread } from './compute-thread';
import { heldTensors, lend, receiveLent, type HeldTensor } from './posted-module';
import { postModel } from './posted-model';
import type { Call, CopiedStorage, Notice } from './protocol';
import { sameSignature, signatureOf, whyNotReplicable } from './replicable';

/** Copies of storages, uint8 on the CPU, by the numbers of the storages that they are of. */
export type StorageCopies = ReadonlyMap<number, Tensor>;

let lastNumber = 0;

/**
 * A model's likeness on a compute thread: the same network over the same memory. It is there while somebody uses it.
 */
export class Replica {
  private readonly number = ++lastNumber;
  private readonly loans: NativeLoan[] = [];
  private readonly numbers: Map<Tensor, number>;
  /** Whether updates are made on it. */
  trains = false;

  private constructor(
    readonly thread: ComputeThread,
    readonly held: readonly HeldTensor[],
    private readonly signature: readonly unknown[],
  ) {
    this.numbers = new Map(held.map(({ tensor }, i) => [tensor, i]));
    thread.replicas++;
  }

  /** Makes one; undefined where the model must be computed by its own thread. */
  static async open(model: GPTModel, preferred?: ComputeThread): Promise<Replica | undefined> {
    const held = heldTensors(model);
    if (whyNotReplicable(model, held) !== undefined) return undefined;
    const thread = preferred?.hasEnded === false ? preferred : leastUsedThread();
    if (thread === undefined) return undefined;
    const replica = new Replica(thread, held, signatureOf(model, held));
    let tickets: number[] = [];
    try {
      tickets = replica.lend(held.map(({ tensor }) => tensor));
      await replica.call({ type: 'open', model: postModel(model, held, tickets) });
      return replica;
    } catch {
      // A program may have put modules of torchbind together as no config does. What cannot be made there is computed here.
      for (const ticket of tickets) native().discardTensor(ticket);
      replica.close();
      return undefined;
    }
  }

  /** Whether it still computes what the model computes: a program may change modules, hooks and parameters at any time. */
  isLike(model: GPTModel): boolean {
    const held = heldTensors(model);
    return (
      !this.thread.hasEnded &&
      sameSignature(this.signature, signatureOf(model, held)) &&
      whyNotReplicable(model, held) === undefined
    );
  }

  /** Tickets with which the thread receives tensors, whose memory stays where it is until the replica is closed. */
  lend(tensors: readonly Tensor[]): number[] {
    const { tickets, loan } = lend(tensors);
    this.loans.push(loan);
    return tickets;
  }

  call<T>(call: Call, onValue?: (value: T) => void): Promise<T> {
    return this.thread.call(this.number, call, onValue);
  }

  post(notice: Notice): void {
    this.thread.post(this.number, notice);
  }

  /**
   * Runs a function that changes weights, while nothing is generated from them. The event loop does not turn.
   */
  exclusively<T>(fn: () => T): T {
    this.call({ type: 'hold' }).catch(() => undefined); // an ended thread generates nothing
    this.settle();
    try {
      return fn();
    } finally {
      this.post({ type: 'release' });
    }
  }

  /**
   * Copies of all storages that it shares, made between two updates.
   *
   * @param onCopied is called in the turn in which they are there, when this thread knows of all updates before and of none after
   */
  async copyStorages(onCopied: (copies: StorageCopies) => void): Promise<void> {
    await this.call<CopiedStorage[]>({ type: 'copy' }, (storages) => {
      const copies = new Map(storages.map(({ id, ticket }) => [id, receiveLent(ticket)]));
      try {
        onCopied(copies);
      } finally {
        dispose([...copies.values()]);
      }
    });
  }

  /** The number of one of the model's tensors. */
  numberOf(tensor: Tensor): number | undefined {
    return this.numbers.get(tensor);
  }

  /** Waits for the calls that are under way, without turning the event loop. */
  settle(): void {
    this.thread.settle(this.number);
  }

  /** Ends it, when no call is under way. The memory may move again: the thread only lets go of it. */
  close(): void {
    this.thread.replicas--;
    this.call({ type: 'close' }).catch(() => undefined); // of a thread that has ended there is nothing to close
    for (const loan of this.loans) native().endLoan(loan);
  }
}
