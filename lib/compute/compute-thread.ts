import { MessageChannel, type MessagePort, receiveMessageOnPort, type Worker } from 'node:worker_threads';
import { TorchBindError } from '../errors';
import { getNumThreads } from '../tensor/device';
import { postError, receiveError } from '../workers/errors';
import { startWorker } from '../workers/start';
import type { Answer, Call, Notice, Reply, Request, SequenceEvent } from './protocol';

/** A call that waits for its answer. */
interface Pending {
  replica: number;
  /** Called in the turn of the event loop in which the answer arrives, before the code that awaits it. */
  onValue: ((value: unknown) => void) | undefined;
  resolve(value: unknown): void;
  reject(error: Error): void;
  stack: string | undefined;
}

/** What takes the events of a sequence. */
export interface SequenceListener {
  take(event: SequenceEvent): void;
}

/** Milliseconds that `settle` sleeps before it checks whether the thread is still running. */
const LOOK = 1000;

/** A worker thread that computes for the models of this thread. It keeps the process alive while it owes an answer. */
export class ComputeThread {
  private readonly pending = new Map<number, Pending>();
  private readonly port: MessagePort;
  /** [messages that the thread has sent, 1 once it has ended] */
  private readonly state: Int32Array;
  private readonly listeners = new Map<number, WeakRef<SequenceListener>>();
  private readonly waiting = new Set<SequenceListener>();
  private lastId = 0;
  private failure: Error | undefined;
  /** Replicas that are open on it. */
  replicas = 0;

  /** @returns undefined where there can be no worker */
  static start(): ComputeThread | undefined {
    const { port1, port2 } = new MessageChannel();
    const state = new Int32Array(new SharedArrayBuffer(8));
    const worker = startWorker('compute/host', { workerData: { port: port2, state }, transferList: [port2] });
    return worker === undefined ? undefined : new ComputeThread(worker, port1, state);
  }

  private constructor(worker: Worker, port: MessagePort, state: Int32Array) {
    this.port = port;
    this.state = state;
    port.on('message', (reply: Reply) => this.receive(reply));
    port.unref();
    worker.on('error', (error) => this.fail(error));
    worker.on('exit', (code) => this.fail(new Error(`it exited with code ${code}`)));
  }

  get hasEnded(): boolean {
    return this.failure !== undefined;
  }

  /** Makes a call. `onValue` is called with the answer as soon as it arrives, before the promise's reactions. */
  call<T>(replica: number, call: Call, onValue?: (value: T) => void): Promise<T> {
    const id = ++this.lastId;
    const { stack } = new Error();
    if (this.failure !== undefined) return Promise.reject(ended(this.failure));
    const entry = { replica, onValue, stack } as Pending;
    const promise = new Promise<unknown>((resolve, reject) => Object.assign(entry, { resolve, reject }));
    this.pending.set(id, entry);
    this.keepAlive();
    try {
      this.port.postMessage({ id, replica, numThreads: getNumThreads(), ...call } satisfies Request);
    } catch (error) {
      this.take({ id, error: postError(error) }); // it holds what cannot be posted
    }
    return promise as Promise<T>;
  }

  /** Tells the thread something that it does not answer. */
  post(replica: number, notice: Notice): void {
    if (this.failure === undefined)
      this.port.postMessage({ replica, numThreads: getNumThreads(), ...notice } satisfies Request);
  }

  /** Gives the events of a sequence to a listener, or to none any more. The thread alone does not keep it from being collected. */
  listen(sequence: number, listener: SequenceListener | undefined): void {
    if (listener === undefined) this.listeners.delete(sequence);
    else this.listeners.set(sequence, new WeakRef(listener));
  }

  /** Says whether somebody waits for a listener's next event: it is kept then, and so is the process. */
  setWaiting(listener: SequenceListener, waits: boolean): void {
    if (waits) this.waiting.add(listener);
    else this.waiting.delete(listener);
    this.keepAlive();
  }

  private keepAlive(): void {
    if (this.pending.size + this.waiting.size > 0) this.port.ref();
    else this.port.unref();
  }

  /** Whether a call for a replica is under way. */
  isBusy(replica: number): boolean {
    for (const { replica: owner } of this.pending.values()) if (owner === replica) return true;
    return false;
  }

  /** Waits, without turning the event loop, until no call for a replica is under way. */
  settle(replica: number): void {
    while (this.isBusy(replica) && this.failure === undefined) {
      const sent = Atomics.load(this.state, 0);
      const received = receiveMessageOnPort(this.port);
      if (received !== undefined) this.receive(received.message as Reply);
      else if (Atomics.load(this.state, 1) === 1) this.fail(new Error('it ended'));
      else Atomics.wait(this.state, 0, sent, LOOK);
    }
  }

  private receive(reply: Reply): void {
    if (reply.id !== undefined) return this.take(reply);
    for (const event of reply.events) this.listeners.get(event.sequence)?.deref()?.take(event);
  }

  private take({ id, value, error }: Answer): void {
    const entry = this.pending.get(id);
    if (entry === undefined) return;
    this.pending.delete(id);
    this.keepAlive();
    if (error !== undefined) return entry.reject(receiveError(error, entry.stack));
    try {
      entry.onValue?.(value);
      entry.resolve(value);
    } catch (thrown) {
      entry.reject(thrown as Error);
    }
  }

  private fail(error: Error): void {
    if (this.failure !== undefined) return;
    this.failure = error;
    for (const entry of this.pending.values()) entry.reject(ended(error));
    this.pending.clear();
    const posted = postError(ended(error));
    for (const [sequence, listener] of [...this.listeners]) listener.deref()?.take({ sequence, error: posted });
    this.port.unref();
  }
}

function ended(cause: Error): TorchBindError {
  return new TorchBindError(`The compute thread ended: ${cause.message}.`, 'ERR_TORCHBIND_COMPUTE_THREAD', { cause });
}

/** At most two models are computed at a time: each kernel already uses all cores. */
const MOST_THREADS = 2;
const threads: ComputeThread[] = [];

/** The thread that a further replica goes to; undefined where there can be none. */
export function leastUsedThread(): ComputeThread | undefined {
  for (const thread of [...threads]) if (thread.hasEnded) threads.splice(threads.indexOf(thread), 1);
  const idle = threads.find(({ replicas }) => replicas === 0);
  if (idle !== undefined) return idle;
  if (threads.length < MOST_THREADS) {
    const started = ComputeThread.start();
    if (started !== undefined) threads.push(started);
    return started ?? threads[0];
  }
  return threads.reduce((least, thread) => (thread.replicas < least.replicas ? thread : least));
}
