import { type MessagePort, workerData } from 'node:worker_threads';
import { TorchBindError } from '../errors';
import { native } from '../native/native';
import { getNumThreads, setNumThreads } from '../tensor/device';
import { postError } from '../workers/errors';
import { HostedModel } from './hosted-model';
import type { Answer, Call, Notice, Reply, Request, SequenceEvent } from './protocol';

/**
 * What a compute thread runs. It keeps models over the memory of another thread's, makes the calls that come for them in their
 * order, and generates in between.
 */
const { port, state } = workerData as { port: MessagePort; state: Int32Array };
const models = new Map<number, HostedModel>();
const calls: ({ id: number; replica: number } & Call)[] = [];
/** Tokens of the step that is being made. */
let events: SequenceEvent[] = [];
let isScheduled = false;
/** Calls of `hold` that were not released yet: nothing is generated meanwhile. */
let holds = 0;
/** Milliseconds that generation may compute before the next call: as many as the calls before it took. */
let owed = 0;

port.on('message', (request: Request) => {
  if (request.numThreads !== getNumThreads()) setNumThreads(request.numThreads);
  if (request.id === undefined) notice(request);
  else calls.push(request);
  schedule();
});
process.on('exit', () => Atomics.store(state, 1, 1));

/** One call, or one step of generation, and the event loop turns: messages are looked at in between. */
function schedule(): void {
  if (isScheduled || (calls.length === 0 && !isGenerating())) return;
  isScheduled = true;
  setImmediate(() => {
    isScheduled = false;
    turn();
    schedule();
  });
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
  if (isGenerating() && (isOwed || calls.length === 0)) {
    for (const model of models.values()) if (model.isGenerating) model.generate();
    if (events.length > 0) send({ events });
    events = [];
    owed -= performance.now() - began;
  } else if (calls.length > 0 && !(isOwed && awaitsReaders())) {
    send(answer(calls.shift()!));
    owed = some((model) => model.hasSequences) ? performance.now() - began : 0;
  }
}

function answer(call: { id: number; replica: number } & Call): Answer {
  const { id } = call;
  try {
    return { id, value: make(call) };
  } catch (error) {
    return { id, error: postError(error) };
  }
}

function make(call: { replica: number } & Call): unknown {
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
