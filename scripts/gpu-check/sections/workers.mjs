// Tensors and models that several threads of this process use: the same memory on the device, nothing is copied.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { inRoot } from '../../steps.mjs';
import { smallGpt } from '../models.mjs';

const WORKER = `
const { parentPort, workerData } = require('node:worker_threads');
const tb = require(workerData.library);
parentPort.on('message', (message) => {
  if (message.tensor !== undefined) {
    const x = tb.receive(message.tensor);
    x.add_(1);
    const sum = Number(x.sum().item());
    if (x.isCuda) tb.cuda.synchronize();
    parentPort.postMessage({ sum, device: x.device });
  } else {
    const model = tb.receive(message.model);
    model.eval();
    const logits = model.forward(tb.arange(8, { device: model.device }).unsqueeze(0)).logits;
    parentPort.postMessage({ first: logits.at(0, 0, 0).item() });
  }
});`;

export async function run(context, tb) {
  const { device } = context;
  const worker = new Worker(WORKER, { eval: true, workerData: { library: inRoot('dist/index.js') } });
  const ask = async (message) => {
    const answer = once(worker, 'message');
    worker.postMessage(message);
    return (await answer)[0];
  };
  await context.check('a worker writes into a tensor of this thread', async () => {
    const x = tb.zeros(1000, { device });
    if (context.isCuda) tb.cuda.synchronize();
    const { sum, device: on } = await ask({ tensor: tb.share(x) });
    return { ok: sum === 1000 && x.sum().item() === 1000 && on === x.device, note: on };
  });
  await context.check('a shared model gives the same logits there, to the bit', async () => {
    const model = smallGpt(tb, device);
    model.eval();
    const own = model.forward(tb.arange(8, { device }).unsqueeze(0)).logits.at(0, 0, 0).item();
    const { first } = await ask({ model: tb.share(model) });
    return { ok: first === own, measured: String(first), allowed: String(own) };
  });
  await context.check('the device works on after the worker has ended', async () => {
    await worker.terminate();
    return tb.ones(10, { device }).sum().item() === 10;
  });
}
