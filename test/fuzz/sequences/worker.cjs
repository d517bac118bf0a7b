// The other thread of a sequence: receives tensors, changes them while the main thread does, gives some back, and ends
// in one of several ways at a random moment. That the main thread may terminate it is one more.
const { parentPort, workerData } = require('node:worker_threads');
const torch = require('../../../dist/index.js');
const { Rng } = require('../rng.cjs');

let received = 0;
const kept = [];

function change(tensor, rng) {
  return rng.pick([
    () => tensor.add_(1),
    () => tensor.resize_([50]),
    () => tensor.mul(2).sum().item(),
    () => tensor.requiresGrad_().mul(tensor).sum().backward(),
    () => tensor.toTypedArray({ copy: false }).fill(3),
    () => tensor.narrow(0, 0, 1),
    () => torch.ops.aten._lazy_clone(tensor),
    () => tensor.dispose(),
    () => kept.push(tensor),
    () => void tensor.itemAsync().catch(() => undefined),
    () => parentPort.postMessage(torch.share(tensor)),
    () => parentPort.postMessage(torch.transfer(tensor.clone())),
    () => process.exit(0),
    () => {
      throw new Error('on purpose');
    },
    () => parentPort.close(),
  ])();
}

parentPort.on('message', (ticket) => {
  const rng = new Rng(workerData.seed, received++);
  try {
    const tensor = torch.receive(ticket);
    for (let i = rng.int(4); i >= 0; i--) change(tensor, rng);
  } catch (error) {
    if (!(error instanceof torch.TorchBindError)) throw error;
  }
});
