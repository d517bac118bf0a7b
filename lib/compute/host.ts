import { type MessagePort, workerData } from 'node:worker_threads';
import { TorchBindError } from '../errors';
import { postError } from '../workers/errors';
import type { Reply, Request } from './protocol';
import { HostedModel } from './hosted-model';

/**
 * What a compute thread runs: it keeps models over the memory of another thread's, and makes the calls that come for them, each
 * to its end, in their order.
 */
const { port, state } = workerData as { port: MessagePort; state: Int32Array };
const models = new Map<number, HostedModel>();

port.on('message', (request: Request) => send(answer(request)));
process.on('exit', () => Atomics.store(state, 1, 1));

function answer(request: Request): Reply {
  const { id, replica } = request;
  try {
    return { id, value: run(replica, request) };
  } catch (error) {
    return { id, error: postError(error) };
  }
}

function run(replica: number, request: Request): unknown {
  if (request.type === 'open') return void models.set(replica, new HostedModel(request.model));
  const model = models.get(replica);
  if (model === undefined) throw new TorchBindError('There is no such model.', 'ERR_TORCHBIND_COMPUTE_THREAD');
  if (request.type !== 'close') return model.run(request);
  models.delete(replica);
  return model.close();
}

function send(reply: Reply): void {
  port.postMessage(reply);
  // Whoever waits without turning its event loop is woken.
  Atomics.add(state, 0, 1);
  Atomics.notify(state, 0);
}
