// Tensors go between threads in both directions, many at once, from workers that end at once or are terminated.
const { once } = require('node:events');
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { full, memory, ones, receive, share, tidy, transfer, zeros } = require('../../../dist/index.js');

const roles = {
  /** Posts its result and ends. */
  result() {
    parentPort.postMessage(transfer(full([1000], workerData.value, { dtype: 'float32' })));
  },
  /** Writes into the memory of the main thread. */
  write() {
    tidy(() => void receive(workerData.ticket).add_(5));
    parentPort.postMessage(memory().numTensors);
  },
  /** Answers each tensor with its double, until told to end. */
  echo() {
    parentPort.on('message', (ticket) => {
      if (ticket === null) return parentPort.close();
      tidy(() => parentPort.postMessage(share(receive(ticket).mul(2))));
    });
  },
  /** Shares what nobody will receive, until it is terminated. */
  lose() {
    const first = tidy(() => share(zeros([1000])));
    for (let i = 0; ; i++) {
      tidy(() => share(zeros([1000])));
      if (i === 100) parentPort.postMessage(first);
    }
  },
};

const start = (role, data = {}) => new Worker(__filename, { workerData: { role, ...data } });

async function results() {
  const workers = Array.from({ length: 4 }, (_, value) => start('result', { value }));
  const tickets = await Promise.all(
    workers.map(async (worker) => {
      const ended = once(worker, 'exit');
      const [ticket] = await once(worker, 'message');
      await ended; // the ticket outlives the thread that made it
      return ticket;
    }),
  );
  const meanAndSize = (tensor) => tensor.mean().item() + tensor.shape[0];
  return tickets.map((ticket) => tidy(() => meanAndSize(receive(ticket))));
}

async function write() {
  const tensor = zeros([3]);
  const worker = start('write', { ticket: share(tensor) });
  const ended = once(worker, 'exit');
  const [left] = await once(worker, 'message');
  await ended;
  return { values: tensor.tolist(), left };
}

async function echo() {
  const worker = start('echo');
  const answers = [];
  const done = new Promise((resolve) => {
    worker.on('message', (ticket) => {
      answers.push(tidy(() => receive(ticket).sum().item()));
      if (answers.length === 200) resolve();
    });
  });
  const ended = once(worker, 'exit');
  for (let i = 0; i < 200; i++) tidy(() => worker.postMessage(share(ones(i + 1))));
  await done;
  worker.postMessage(null);
  await ended;
  return answers.every((sum, i) => sum === 2 * (i + 1));
}

/** A ticket that came before its sender was terminated is good for a minute; then all that it shared is freed. */
async function lose() {
  const { native } = require('../../../dist/native/native.js');
  const minute = clock();
  const worker = start('lose');
  const [ticket] = await once(worker, 'message');
  await worker.terminate();
  const received = tidy(() => receive(ticket).shape);
  const before = native().waitingTickets();
  minute.pass();
  return { received, wereLost: before > 0, left: native().waitingTickets() };
}

/** Takes the timers of a minute over. */
function clock() {
  const { setTimeout } = globalThis;
  const due = [];
  globalThis.setTimeout = (fn, delay, ...args) => {
    if (delay !== 60_000) return setTimeout(fn, delay, ...args);
    due.push(() => fn(...args));
    return { unref() {} };
  };
  return { pass: () => due.forEach((fn) => fn()) };
}

async function main() {
  const output = { results: await results(), write: await write(), echo: await echo(), lost: await lose() };
  console.log(JSON.stringify(output));
}

if (isMainThread) void main();
else roles[workerData.role]();
