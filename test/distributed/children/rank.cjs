// One rank: runs the part that is named, and prints what it found as lines of JSON.
const { existsSync, writeFileSync, writeSync } = require('node:fs');
const torch = require('../../../dist/index.js');
const { distributed, nn, optim, ops, tensor, ones, zeros, full } = torch;

const say = (value) => writeSync(1, `${JSON.stringify(value)}\n`);
const values = (tensors) => tensors?.map((each) => each.tolist()) ?? null;
const timeout = 60_000;

async function failureOf(call) {
  try {
    await call();
    return null;
  } catch (error) {
    return { code: error.code, message: error.message };
  }
}

/** The collectives that both languages can take part in: rank.py makes the same calls. */
async function collectives() {
  const group = await distributed.initProcessGroup({ timeout });
  const rank = distributed.rank();
  const said = { rank, size: distributed.worldSize(), name: group.name };
  said.sum = (await distributed.allReduce(full([3], rank + 1.5))).tolist();
  said.max = (await distributed.allReduce(tensor([rank, 5 - rank]), { op: 'max' })).tolist();
  said.half = (await distributed.allReduce(ones(2).to('bfloat16'))).tolist();
  said.broadcast = (await distributed.broadcast(tensor([rank, 0.5]), { src: 1 })).tolist();
  said.gathered = values(await distributed.allGather(tensor([[rank, 1]])));
  said.part = (await distributed.reduceScatter([tensor([rank, 1]), tensor([10, rank])])).tolist();
  said.atOne = values(await distributed.gather(tensor([rank + 0.5]), { dst: 1 }));
  const parts = rank === 0 ? [tensor([1.5, 2]), tensor([3.5, 4])] : null;
  said.scattered = (await distributed.scatter(zeros(2), parts)).tolist();
  if (rank === 0) await distributed.send(tensor([7, 8]), 1, { tag: 3 });
  else {
    const received = zeros([2], { dtype: 'int64' });
    said.from = await distributed.recv(received, 0, { tag: 3 });
    said.received = received.tolist();
  }
  const mine = { name: `rank ${rank}`, list: [1, 2.5, null, true], text: 'x'.repeat(rank * 300) };
  said.objects = (await distributed.allGatherObject(mine)).map((map) => Object.fromEntries(map));
  said.list = await distributed.broadcastObjectList(rank === 0 ? ['a', 2, null] : [null, null, null]);
  const sub = await distributed.newGroup([1]);
  said.sub = [sub.rank, sub.size];
  const all = await distributed.newGroup([1, 0]);
  said.second = [all.name, (await distributed.allReduce(full([1], rank + 1), { group: all })).item()];
  const reduced = ops._c10d_functional.all_reduce(full([2], rank + 1), 'sum', '0');
  said.functional = ops._c10d_functional.wait_tensor(reduced).tolist();
  await distributed.barrier();
  say(said);
  await distributed.destroyProcessGroup();
}

/** What only Node ranks do. */
async function more() {
  await distributed.initProcessGroup({ timeout });
  const rank = distributed.rank();
  const exchanged = await distributed.allToAll([tensor([rank * 10]), tensor([rank * 10 + 1])]);
  const reduced = await distributed.reduce(full([1], 2), { dst: 1 });
  let any = null;
  if (rank === 0) await distributed.send(ones(1), 1);
  else any = await distributed.recv(zeros(1));
  const complex = torch.ops.aten.complex(ones(1), full([1], rank, { dtype: 'float32' }));
  await distributed.allReduce(complex);
  const objects = await distributed.gatherObject(rank, { dst: 0 });
  say({
    exchanged: values(exchanged),
    reduced: rank === 1 ? reduced.item() : null,
    any,
    complex: complex.tolist(),
    objects,
    one: await distributed.broadcastObject(rank === 1 ? 'from one' : null, { src: 1 }),
    empty: await distributed.broadcastObjectList([]),
    isInitialized: distributed.isInitialized(),
    backend: distributed.getBackend(),
    unknown: await failureOf(() => ops._c10d_functional.all_reduce(ones(1), 'sum', 'nope')),
  });
  await distributed.destroyProcessGroup();
  say({ isInitialized: distributed.isInitialized(), after: await failureOf(() => distributed.barrier()) });
}

/** Rank 1 comes late: rank 0's event loop turns meanwhile. */
async function late() {
  let beats = 0;
  const timer = setInterval(() => beats++, 5);
  if (process.env.RANK === '1') await new Promise((resolve) => setTimeout(resolve, 400));
  await distributed.initProcessGroup({ timeout });
  const whileJoining = beats;
  await distributed.barrier();
  if (distributed.rank() === 1) await new Promise((resolve) => setTimeout(resolve, 400));
  beats = 0;
  await distributed.allReduce(ones(2));
  clearInterval(timer);
  say({ whileJoining, whileWaiting: beats });
}

const problem = () => {
  torch.manualSeed(1);
  const layer = new nn.Sequential(new nn.Linear(4, 8), new nn.GELU(), new nn.Linear(8, 2));
  layer.to('float64');
  return layer;
};

/** Batch and targets of a step for one rank of two; both make those of all. */
function batchOf(step, rank) {
  const at = (shape, scale) => {
    const count = shape.reduce((product, size) => product * size, 1);
    return torch.arange(count, { dtype: 'float64' }).mul(scale).add(step).sin().view(shape);
  };
  const rows = rank === undefined ? [0, 8] : [rank * 4, 4];
  return [at([8, 4], 0.7).narrow(0, ...rows), at([8, 2], 1.3).narrow(0, ...rows)];
}

/** Trains half batches with DistributedDataParallel, and whole ones alone: the weights are the same. */
async function parallel() {
  await distributed.initProcessGroup({ timeout });
  const rank = distributed.rank();
  const alone = problem();
  const module = problem();
  if (rank === 1) for (const parameter of module.parameters()) torch.noGrad(() => parameter.add_(rank));
  const options = { gradientAsBucketView: process.argv[3] === 'views', bucketCapMb: 0.0001 };
  const model = await nn.parallel.DistributedDataParallel.create(module, options);
  const optimizers = [alone, module].map((each) => new optim.SGD(each.parameters(), { lr: 0.1, momentum: 0.9 }));
  const lossOf = (network, [x, y]) => network.forward(x).sub(y).square().mean();
  for (let step = 0; step < 6; step++) {
    for (const optimizer of optimizers) optimizer.zeroGrad();
    for (let part = 0; part < 2; part++) {
      const number = 2 * step + part;
      lossOf(alone, batchOf(number)).div(2).backward();
      const accumulate = () => lossOf(model, batchOf(number, rank)).div(2).backward();
      if (part === 0) model.noSync(accumulate);
      else accumulate();
    }
    for (const optimizer of optimizers) optimizer.step();
  }
  const pairs = alone.parameters().map((parameter, i) => [parameter, module.parameters()[i]]);
  const difference = Math.max(...pairs.map(([a, b]) => a.sub(b).abs().max().item()));
  say({ difference, keys: [...model.stateDict().keys()], sum: module.parameters()[0].sum().item() });
  await distributed.destroyProcessGroup();
}

/** A rank of a job of DistributedDataParallel that rank.py takes part in. */
async function mixed() {
  await distributed.initProcessGroup({ timeout });
  const rank = distributed.rank();
  const module = problem();
  const model = new nn.parallel.DistributedDataParallel(module);
  const optimizer = new optim.SGD(module.parameters(), { lr: 0.1, momentum: 0.9 });
  for (let step = 0; step < 5; step++) {
    const [x, y] = batchOf(step, rank);
    optimizer.zeroGrad();
    model.forward(x).sub(y).square().mean().backward();
    optimizer.step();
  }
  say(module.parameters().map((parameter) => parameter.tolist()));
  await distributed.destroyProcessGroup();
}

/** Modules that differ between the ranks. */
async function different() {
  await distributed.initProcessGroup({ timeout });
  const layer = new nn.Linear(2, 2 + distributed.rank());
  say(await failureOf(() => nn.parallel.DistributedDataParallel.create(layer)));
  process.exit();
}

/** Not all parameters are used by all ranks. */
async function unused() {
  await distributed.initProcessGroup({ timeout });
  const rank = distributed.rank();
  class Either extends nn.Module {
    a = new nn.Linear(2, 1);
    b = new nn.Linear(2, 1);
    forward(x) {
      return (rank === 0 ? this.a : this.b).forward(x);
    }
  }
  const either = new Either();
  const model = await nn.parallel.DistributedDataParallel.create(either, { findUnusedParameters: true });
  for (let step = 0; step < 3; step++) {
    either.zeroGrad();
    model.forward(ones(1, 2)).sum().backward();
  }
  say(either.parameters().map((parameter) => parameter.grad.tolist()));
  await distributed.destroyProcessGroup();
}

/** Waits for the others, who do not come. */
async function waits() {
  await distributed.initProcessGroup({ timeout });
  await distributed.barrier();
  say({ ready: true });
  const began = Date.now();
  const failure = await failureOf(() => distributed.allReduce(ones(4)));
  say({ ...failure, milliseconds: Date.now() - began });
  process.exit(3);
}

async function leaves() {
  await distributed.initProcessGroup({ timeout });
  await distributed.barrier();
  say({ ready: true });
  setInterval(() => undefined, 1000);
}

/** A rank that never comes to the collective, within a short timeout. */
async function slow() {
  await distributed.initProcessGroup({ timeout: Number(process.argv[3]) });
  const began = Date.now();
  if (distributed.rank() === 0)
    say({ ...(await failureOf(() => distributed.allReduce(ones(4)))), milliseconds: Date.now() - began });
  else await new Promise((resolve) => setTimeout(resolve, 3 * Number(process.argv[3])));
  process.exit();
}

/** The other ranks are never started. */
async function lonely() {
  say(await failureOf(() => distributed.initProcessGroup({ timeout: 1000, worldSize: 2 })));
}

/** Joins that cannot work: what each says. */
async function unreachable() {
  const join = (options) => failureOf(() => distributed.initProcessGroup({ timeout: 1000, ...options }));
  const nobody = await join({ rank: 1, worldSize: 2 });
  const server = require('node:net').createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const taken = await join({ rank: 0, worldSize: 2, masterPort: server.address().port });
  server.close();
  const nccl = torch.cuda.isAvailable() ? undefined : await join({ rank: 0, worldSize: 2, backend: 'nccl' });
  process.env.GLOO_SOCKET_IFNAME = 'nope0';
  say({ nobody, taken, nccl, unknown: await join({ rank: 0, worldSize: 1, masterPort: 0 }) });
}

/** The rest of the library, in an addon that cannot make groups. */
async function withoutGroups() {
  say({ sum: ones(2).sum().item(), ...(await failureOf(() => distributed.initProcessGroup())) });
}

/** `process.exit()` at a stage that waits for another rank. */
async function exits() {
  const stage = process.argv[3];
  const leave = () => setTimeout(() => process.exit(7), 50);
  if (stage === 'join' || stage === 'update') return exitsInFit(stage);
  if (stage === 'init') {
    distributed.initProcessGroup({ timeout, worldSize: 2 });
    return leave();
  }
  await distributed.initProcessGroup({ timeout });
  await distributed.barrier();
  if (distributed.rank() === 1) return setInterval(() => undefined, 1000);
  if (stage === 'collective') distributed.allReduce(ones(4)).catch(() => undefined);
  if (stage === 'destroy') {
    distributed.allReduce(ones(4)).catch(() => undefined);
    distributed.destroyProcessGroup();
  }
  if (stage === 'model') nn.parallel.DistributedDataParallel.create(new nn.Linear(2, 2)).catch(() => undefined);
  leave();
}

/** Stops this thread until there is a file; for good without one. */
function stopUntil(file) {
  const nobody = new Int32Array(new SharedArrayBuffer(4));
  for (let i = 0; file === undefined || !existsSync(file); i++) {
    if (file !== undefined && i === 10_000) throw new Error(`${file} did not come`);
    Atomics.wait(nobody, 0, 0, 5);
  }
}

/** Rank 1 stops before it makes a reducer, or in its first backward pass; rank 0 leaves while it waits. */
async function exitsInFit(stage) {
  await distributed.initProcessGroup({ timeout });
  const stopped = process.argv[4];
  const model = smallModel();
  const stop = () => {
    writeFileSync(stopped, '');
    stopUntil();
  };
  if (distributed.rank() === 0) onceThere(stopped, () => process.exit(7));
  else if (stage === 'join') model.train = stop;
  else model.parameters()[0].registerHook(stop);
  await model.fit({ text, maxSteps: 3, batchSize: 2, seed: 1, evalInterval: 0 });
}

/** Calls back when there is a file and the event loop has turned some times since. */
function onceThere(file, then) {
  let beats = 0;
  const timer = setInterval(() => {
    if (!existsSync(file) || ++beats < 20) return;
    clearInterval(timer);
    then();
  }, 5);
}

/** Rank 1 waits in its backward pass until the event loop of rank 0 has turned, which waits for rank 1. */
async function slowInFit() {
  await distributed.initProcessGroup({ timeout });
  const [stopped, turned] = process.argv.slice(3);
  const model = smallModel();
  if (distributed.rank() === 0) onceThere(stopped, () => writeFileSync(turned, ''));
  else
    model.parameters()[0].registerHook(() => {
      writeFileSync(stopped, '');
      stopUntil(turned);
    });
  const { losses } = await model.fit({ text, maxSteps: 1, batchSize: 2, seed: 1, evalInterval: 0 });
  say(losses);
}

/** Calls that do not match, in debug mode. */
async function mismatch() {
  await distributed.initProcessGroup({ timeout });
  const rank = distributed.rank();
  let beats = 0;
  const timer = setInterval(() => beats++, 5);
  if (rank === 1) await new Promise((resolve) => setTimeout(resolve, 300));
  const good = (await distributed.allReduce(ones(2))).tolist();
  clearInterval(timer);
  const failure = await failureOf(() => distributed.allReduce(ones(rank + 1)));
  say({ good, beats, ...failure });
  process.exit();
}

/** Fails as a program does. */
async function throws() {
  await distributed.initProcessGroup({ timeout });
  throw new RangeError('the data is not there');
}

async function inWorker() {
  const { Worker } = require('node:worker_threads');
  const code = `
    const { distributed } = require(${JSON.stringify(require.resolve('../../../dist/index.js'))});
    distributed.initProcessGroup().catch(({ code, message }) => require('worker_threads').parentPort.postMessage({ code, message }));`;
  new Worker(code, { eval: true }).on('message', say);
}

const text = 'the quick brown fox jumps over the lazy dog.\n'.repeat(30);

const ROPE = { positionEncoding: 'rope', normType: 'rmsnorm', activation: 'swiglu', bias: false };

function smallModel(dropout = 0, dtype = 'float64', rope = false) {
  torch.manualSeed(3);
  const tokenizer = new torch.CharTokenizer([...new Set(text)].sort());
  const config = { vocabSize: tokenizer.vocabSize, blockSize: 8, nLayer: 1, nHead: 2, nEmbd: 8, dropout };
  if (rope) return new torch.GPT({ ...config, ...ROPE }, { tokenizer, layout: 'hf-llama' }).to(dtype);
  return new torch.GPT(config, { tokenizer }).to(dtype);
}

/** `fit` with options from the command line: its losses, and a number that all weights decide. */
async function fits() {
  const { dropout, dtype, rope, resume, group, unequal, notify, hookAfter, ...options } = JSON.parse(process.argv[3]);
  if (unequal) options.batchSize += Number(process.env.UNEQUAL);
  if (group !== false) await distributed.initProcessGroup({ timeout });
  const model =
    resume === undefined ? smallModel(dropout, dtype, rope) : await torch.GPT.load(resume, { optimizer: true });
  const events = model.fitEvents({ text, ...options });
  const seen = [];
  const places = [];
  for (;;) {
    const { done, value } = await events.next();
    if (done) {
      const weights = model.parameters().map((each) => each.to('float64').square().sum().item());
      const { losses, step, valLoss, stopped } = value;
      say({ losses, step, valLoss, stopped, weights, seen, places, random: torch.rand([2]).tolist() });
      return;
    }
    if (value.type === 'step') {
      // A compute thread has the gradients of its own updates.
      const place = model.parameters()[0].grad === null ? 'worker' : 'main';
      if (places.at(-1) !== place) places.push(place);
      if (value.step === hookAfter && process.env.RANK === '1') model.parameters()[0].registerHook(() => undefined);
    }
    if (notify && value.type === 'step' && value.step === 1) say(1);
    if (value.type !== 'step') seen.push(value.type);
    if (value.type === 'resume') seen.push(value.missing);
  }
}

const parts = {
  collectives,
  more,
  late,
  parallel,
  mixed,
  different,
  unused,
  waits,
  leaves,
  slow,
  lonely,
  exits,
  mismatch,
};
Object.assign(parts, { unreachable, withoutGroups, throws, inWorker, fits, slowInFit });
parts[process.argv[2]]();
