// Generates on a worker thread over the weights of the main thread: nothing is copied.
//
//     node worker.mjs [prompt]
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { GPT, receive, share } from 'torchbind';

if (isMainThread) {
  const gpt = await GPT.load(new URL('checkpoints/shakespeare-char', import.meta.url));
  const worker = new Worker(new URL(import.meta.url), { workerData: share(gpt) });
  worker.postMessage(process.argv[2] ?? 'KING RICHARD:\n');
  const [text] = await once(worker, 'message');
  console.log(text);
  console.log(`the worker wrote ${text.length} characters`);
} else {
  const gpt = receive(workerData);
  parentPort.once('message', async (prompt) => {
    parentPort.postMessage(await gpt.generate(prompt, { maxNewTokens: 60, seed: 1 }));
  });
}
