// What lives from one step of a sequence to the next: tensors in slots, arrays over their memory, hooks, workers, files.
// A step takes from slots and puts into slots that its own random numbers name, so that a sequence still means much the
// same when some of its steps are left out.
const { mkdtempSync, openSync, rmSync, writeSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { Worker } = require('node:worker_threads');
const { Fuzz } = require('../values.cjs');

const SLOTS = 24;
const ARRAYS = 8;
const HOOKS = 8;
/** Larger tensors are not kept: steps would take too long, and memory would end. */
const MOST_ELEMENTS = 20_000;
const MOST_BYTES = 2 ** 20;

class World {
  constructor(torch, binding, seed) {
    Object.assign(this, { torch, binding, seed });
    this.slots = new Array(SLOTS).fill(undefined);
    this.arrays = new Array(ARRAYS).fill(undefined);
    this.hooks = new Array(HOOKS).fill(undefined);
    this.tickets = [];
    this.worker = undefined;
    this.pending = new Set();
    this.directory = mkdtempSync(join(tmpdir(), 'torchbind-sequence-'));
    const open = (name) => openSync(join(this.directory, name), 'w+');
    this.files = { file: open('bytes'), scratch: open('scratch') };
    writeSync(this.files.file, Buffer.alloc(4096, 7));
    process.on('exit', () => rmSync(this.directory, { recursive: true, force: true }));
  }

  take(rng) {
    return this.slots[rng.int(SLOTS)];
  }

  /** Keeps what is a tensor, or a list of some. What was in the slot is disposed, or left to the garbage collector. */
  put(rng, result) {
    if (Array.isArray(result)) return result.slice(0, 3).forEach((value) => this.put(rng, value));
    if (!(result instanceof this.torch.Tensor)) return;
    if (this.isTooLarge(result)) return void result.dispose();
    const index = rng.int(SLOTS);
    const old = this.slots[index];
    this.slots[index] = result;
    if (old !== result && rng.chance(0.4)) old?.dispose();
  }

  isTooLarge(tensor) {
    try {
      return tensor.numel() > MOST_ELEMENTS || this.binding.storageInfo(tensor.handle).nbytes > MOST_BYTES;
    } catch {
      return false; // disposed, or nested: kept for what comes of it
    }
  }

  putArray(rng, array) {
    this.arrays[rng.int(ARRAYS)] = array;
  }

  takeArray(rng) {
    return this.arrays[rng.int(ARRAYS)];
  }

  /** A promise that later steps overlap with. Its end may be a refusal. */
  let(promise, onSettled) {
    const settled = promise.then(onSettled, (error) => {
      if (!(error instanceof this.torch.TorchBindError)) throw error;
    });
    this.pending.add(settled);
    void settled.finally(() => this.pending.delete(settled)).catch(() => undefined);
    return settled;
  }

  /** A thread that does to its tensors what steps do here, until it ends in one of several ways. */
  thread(rng) {
    if (this.worker === undefined || this.worker.hasEnded) {
      const worker = new Worker(join(__dirname, 'worker.cjs'), {
        workerData: { seed: rng.int(2 ** 30) },
        stderr: true,
      });
      worker.hasEnded = false;
      worker.on('message', (ticket) => this.tickets.push(ticket));
      worker.on('error', () => undefined); // it throws on purpose
      worker.on('exit', () => (worker.hasEnded = true));
      worker.unref();
      this.worker = worker;
    }
    return this.worker;
  }

  async end() {
    await this.worker?.terminate();
    await Promise.allSettled(this.pending);
    for (const ticket of this.tickets) this.torch.discard(ticket);
    for (const tensor of this.slots) tensor?.dispose();
    for (const list of [this.slots, this.arrays, this.hooks]) list.fill(undefined);
  }
}

/** The random numbers and the values of one step: its tensors are those of the world more often than not. */
class Step extends Fuzz {
  constructor(world, index) {
    super(world.torch, world.binding, world.seed, index);
    this.world = world;
    Object.assign(this, world.files);
    this.dtype = this.rng.pick([
      'float32',
      'float32',
      'float32',
      'float64',
      'int64',
      'int64',
      'bool',
      'uint8',
      'complex64',
    ]);
    this.strange = this.rng.chance(0.1);
  }

  /** Operators that count to their arguments would never end with some that are known here. */
  tame() {
    super.tame();
    this.tensor = () => this.fresh();
  }

  tensor() {
    const known = this.rng.chance(0.9) ? this.world.take(this.rng) : undefined;
    return known ?? super.tensor();
  }

  fresh() {
    return super.tensor();
  }

  put(result) {
    this.world.put(this.rng, result);
  }

  /** A tensor that can have a gradient. */
  floating() {
    const tensor = this.tensor();
    const isAlive = this.binding.isAlive(tensor.handle);
    if (isAlive && /^float(32|64)$/.test(tensor.dtype) && tensor.layout === 'strided') return tensor;
    return this.torch.randn(this.shape.slice(0, 3));
  }

  leaf() {
    const tensor = this.floating();
    if (tensor.requiresGrad || this.rng.chance(0.4)) return tensor;
    return tensor.isInference() ? tensor : tensor.detach().requiresGrad_();
  }

  /** Whole numbers, some of them outside of `size`. */
  indices(size, count) {
    const { rng, torch } = this;
    const high = rng.chance(0.1) ? size + 2 : Math.max(size, 1);
    return torch.randint(0, high, [count]);
  }
}

module.exports = { Step, World };
