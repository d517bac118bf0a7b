// Small storages made, written and freed in many threads. Prints how many held something else, and the bytes left.
const { once } = require('node:events');
const { Worker, isMainThread, parentPort } = require('node:worker_threads');
const { full, memory, receive, tidy, transfer } = require('../../../dist/index.js');

const COUNT = 3000; // tensors of a worker: more blocks of a size than a thread keeps
const ARENA = 16 * 2 ** 20;

const size = (i) => 1 + ((7 * i) % 256); // up to 1 KB
const wrong = (tensor, value) => tidy(() => tensor.ne(value).any().item());

async function main() {
  let errors = 0;
  for (let round = 0; round < 3; round++) {
    const workers = [1, 2, 3].map((id) => new Worker(__filename, { argv: [String(id)] }));
    const ended = workers.map((worker) => once(worker, 'exit'));
    const batches = await Promise.all(workers.map((worker) => once(worker, 'message')));
    await Promise.all(ended);
    for (const [{ id, sent }] of batches) {
      for (const [i, ticket] of sent) {
        const tensor = receive(ticket);
        if (wrong(tensor, 100 * id + i)) errors++;
        tensor.dispose();
      }
    }
  }
  // More 64-byte blocks than there are: the rest comes from elsewhere.
  const many = Array.from({ length: ARENA / 64 + 2000 }, (_, i) => full([16], i));
  for (let i = 0; i < many.length; i += 97) if (tidy(() => many[i].at(15).item()) !== i) errors++;
  for (const tensor of many) tensor.dispose();
  console.log(JSON.stringify({ errors, left: memory().numBytes }));
}

function worker() {
  const id = Number(process.argv[2]);
  const tensors = Array.from({ length: COUNT }, (_, i) => full([size(i)], 100 * id + i));
  const sent = [];
  for (const [i, tensor] of tensors.entries()) {
    if (i % 3 === 0) sent.push([i, transfer(tensor)]);
    else tensor.dispose();
  }
  // Takes the blocks again that were freed here, while those that were sent are in use.
  for (let i = 0; i < COUNT; i++) full([size(i)], -1).dispose();
  parentPort.postMessage({ id, sent });
}

if (isMainThread) void main();
else worker();
