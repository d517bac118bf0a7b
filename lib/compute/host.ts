import { type MessagePort, workerData } from 'node:worker_threads';
import { TorchBindError } from '../errors';
import { native } from '../native/native';
import { getNumThreads, setNumThreads } from '../tensor/device';
import { postError } from '../workers/errors';
import { HostedModel } from './hosted-model';
import type { Answer, Call, Notice, Reply, Request, SequenceEvent } from './protocol';

type PostedCall = { id: number; replica: number } & Call;

/**
 * What a compute thread runs. It keeps models over the memory of another thread's, makes the calls that come for them in their
 * order, and generates in between.
 */
const { port, state } = workerData as { port: MessagePort; state: Int32Array };
const models = new Map<number, HostedModel>();
const calls: PostedCall[] = [];
/** Replicas with a call that waits for other ranks. Their next calls wait for its answer. */
const waiting = new Set<number>();
/** Tokens of the step that is being made. */
let events: SequenceEvent[] = [];
let isScheduled = false;
/** Calls of `hold` that were not released yet: nothing is generated meanwhile. */
let holds = 0;
/** Milliseconds that generation may compute before the next call: as many as the calls before it took. */
let owed = 0;

/**
 * Milliseconds that a turn of the event loop may generate. Small models generate several tokens in it: a turn, and a message, take
 * as long as a token of theirs.
 */
const SHORT_TURN = 1;

port.on('message', (request: Request) => {
  if (request.numThreads !== getNumThreads()) setNumThreads(request.numThreads);
  if (request.id === undefined) notice(request);
  else calls.push(request);
  schedule();
});
process.on('exit', () => Atomics.store(state, 1, 1));

/** One call, or one step of generation, and the event loop turns: messages are looked at in between. */
function schedule(): void {
  if (isScheduled || (nextCall() < 0 && !isGenerating())) return;
  isScheduled = true;
  setImmediate(() => {
    isScheduled = false;
    turn();
    schedule();
  });
}

/** The place of the next call that can be made; -1 if none can. */
function nextCall(): number {
  return calls.findIndex(({ replica }) => !waiting.has(replica));
}

function isGenerating(): boolean {
  return holds === 0 && some((model) => model.isGenerating);
}

/** Whether readers of sequences are about to ask for their next tokens. */
function awaitsReaders(): boolean {
  return holds === 0 && some((model) => model.awaitsReaders);
}

function some(is: (model: HostedModel) => boolean): boolean {
  for (const model of models.values()) if (is(model)) return true;
  return false;
}

/** Calls and generation share the time by halves, so that neither waits long for the other. */
function turn(): void {
  const began = performance.now();
  const isOwed = owed > 0;
  const next = nextCall();
  if (isGenerating() && (isOwed || next < 0)) {
    do generate();
    while (nextCall() < 0 && isGenerating() && performance.now() - began < SHORT_TURN);
    if (events.length > 0) send({ events });
    events = [];
    owed -= performance.now() - began;
  } else if (next >= 0 && !(isOwed && awaitsReaders())) {
    answer(calls.splice(next, 1)[0]!);
    owed = some((model) => model.hasSequences) ? performance.now() - began : 0;
  }
}

function generate(): void {
  for (const model of models.values()) if (model.isGenerating) model.generate();
}

function answer(call: PostedCall): void {
  const { id, replica } = call;
  try {
    const value = make(call);
    if (value instanceof Promise) void answerLater(id, replica, value);
    else send({ id, value });
  } catch (error) {
    send({ id, error: postError(error) });
  }
}

/** Calls for other models, and generation, continue until the answer is there. */
async function answerLater(id: number, replica: number, value: Promise<unknown>): Promise<void> {
  waiting.add(replica);
  const reply = await value.then(
    (found): Answer => ({ id, value: found }),
    (error: unknown): Answer => ({ id, error: postError(error) }),
  );
  waiting.delete(replica);
  send(reply);
  schedule();
}

function make(call: PostedCall): unknown {
  const { replica } = call;
  if (call.type === 'open') {
    models.set(replica, new HostedModel(call.model, (event) => events.push(event)));
    return undefined;
  }
  if (call.type === 'hold') return void holds++;
  const model = modelOf(replica);
  if (call.type !== 'close') return model.run(call);
  models.delete(replica);
  model.close();
  if (models.size === 0) native().endThreadPool(); // the caller's thread may compute now
  return undefined;
}

function notice(request: { replica: number } & Notice): void {
  if (request.type === 'release') holds--;
  else models.get(request.replica)?.notice(request);
}

function modelOf(replica: number): HostedModel {
  const model = models.get(replica);
  if (model !== undefined) return model;
  throw new TorchBindError('The model is not on this thread.', 'ERR_TORCHBIND_COMPUTE_THREAD');
}

function send(reply: Reply): void {
  port.postMessage(reply);
  // Whoever waits without turning its event loop is woken.
  Atomics.add(state, 0, 1);
  Atomics.notify(state, 0);
}
