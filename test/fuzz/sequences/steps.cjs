// The steps of a sequence other than those of autograd (graphs.cjs): each takes its random numbers and values from a
// `Step` and returns what is put into a slot. A TorchBindError is a refusal; anything else that is thrown is a finding.
const { renameSync, writeFileSync } = require('node:fs');
const { join } = require('node:path');
const { freeHandles } = require('../context.cjs');
const { graphSteps } = require('./graphs.cjs');

const pick = (step, table) => step.rng.pick(table)(step);

function make(step) {
  const { torch, rng } = step;
  return pick(step, [
    () => step.fresh(),
    () => step.fresh(),
    () => torch.randn(rng.times(rng.int(4), () => step.size())),
    () => torch.randn([4, 3]).requiresGrad_(),
    () => torch.arange(rng.int(20)),
    () => torch.randint(0, 4, [rng.int(6)]),
    () => torch.empty([rng.int(8), rng.int(8)]),
    () => torch.zeros([8, 8]).t(),
    () => torch.inferenceMode(() => torch.ones([3, 2])),
    () => torch.ops.aten._lazy_clone(step.tensor()),
    () => torch.ops.aten.empty_strided([step.int(), step.int()], [step.int(), step.int()]),
  ]);
}

function view(step) {
  const { torch, rng } = step;
  const t = step.tensor();
  const dim = () => rng.int(4) - 1;
  return pick(step, [
    () => t.narrow(dim(), rng.int(3), rng.int(4)),
    () => t.select(dim(), rng.int(4)),
    () => t.t(),
    () => t.transpose(dim(), dim()),
    () => t.permute([1, 0]),
    () => t.expand([rng.int(3) + 1, ...t.shape]),
    () => t.view([-1]),
    () => t.reshape(step.ints()),
    () => t.view(step.sizes()),
    () => t.slice(dim(), rng.int(3), rng.int(9), rng.int(3) + 1),
    () => t.unfold(dim(), rng.int(3) + 1, rng.int(3) + 1),
    () => t.diagonal(rng.int(3) - 1),
    () => t.unsqueeze(dim()),
    () => t.squeeze(),
    () => t.detach(),
    () => t.unbind(dim()),
    () => t.split(rng.int(3) + 1, dim()),
    () => t.chunk(rng.int(3) + 1, dim()),
    () => t.flatten(),
    () => torch.ops.aten.view.dtype(t, rng.pick(['int32', 'float64', 'uint8', 'float32', 'complex64'])),
    () => torch.ops.aten.alias(t),
    () => torch.ops.aten._reshape_alias(t, step.ints(), step.ints()),
    () => t.asStrided(step.ints(2), step.ints(2), rng.chance(0.5) ? step.int() : undefined),
    () => torch.ops.aten.as_strided_scatter(t, step.tensor(), step.ints(2), step.ints(2)),
    () => torch.viewAsReal(t),
    () => t.conj(),
    () => t.contiguous(),
    () => t.getIndex?.(rng.int(3)) ?? t.select(0, 0),
  ]);
}

function resize(step) {
  const { torch, rng } = step;
  const { aten } = torch.ops;
  const t = step.tensor();
  const larger = () => rng.times(rng.int(3) + 1, () => rng.pick([0, 1, 2, 5, 40, 200]));
  const sizes = () => (rng.chance(0.1) ? step.ints(2) : larger());
  return torch.noGrad(() =>
    pick(step, [
      () => t.resize_(sizes()),
      () => t.resize_(larger()),
      () => t.resize_([5, 2 ** 40]),
      () => t.resizeAs_(step.tensor()),
      () => aten._resize_output_(t, sizes(), 'cpu'),
      () => t.asStrided_(step.ints(2), step.ints(2), rng.chance(0.5) ? rng.int(4) : undefined),
      () => t.asStrided_([1, 2n ** 63n - 1n], [1, 4]),
      () => t.asStrided_([2, 2], [1, 2]),
      () => aten.set_.source_Tensor(t, step.tensor()),
      () => aten.set_.source_Storage(t, step.tensor()),
      () => aten.set_.source_Tensor_storage_offset(t, step.tensor(), rng.int(4), sizes(), []),
      () => aten.set_.source_Storage_storage_offset(t, step.tensor(), rng.int(4), step.ints(2), step.ints(2)),
      () => aten.set_(t),
      () => aten.set_data(t, step.tensor()),
      () => t.unsqueeze_(0),
      () => t.squeeze_(),
      () => t.t_(),
      () => t.transpose_(0, -1),
      () => t.detach_(),
      () => t.requiresGrad_(rng.chance(0.7)),
    ]),
  );
}

function inPlace(step) {
  const { torch, rng } = step;
  const change = () => {
    const t = step.tensor();
    return pick(step, [
      () => t.add_(step.scalar()),
      () => t.mul_(step.tensor()),
      () => t.copy_(step.tensor()),
      () => t.copy_(t.flip([0])),
      () => t.zero_(),
      () => t.fill_(step.float()),
      () => t.clamp_(0, 3),
      () => t.indexAdd_(0, step.indices(4, 2), step.tensor()),
      () => t.indexPut_([step.indices(4, 2)], step.tensor()),
      () => t.scatter_(0, step.tensor(), step.tensor()),
      () => t.scatterAdd_(rng.int(2), step.tensor(), step.tensor()),
      () => t.maskedFill_(step.tensor(), 1),
      () => t.indexFill_(0, step.tensor(), 2),
      () => t.put_(step.tensor(), step.tensor()),
      () => t.normal_(),
      () => t.exp_(),
      () => t.cumsum_(0),
      () => t.random_(-3, 9),
      () => torch.ops.aten._foreach_add_([t, step.tensor()], [step.tensor(), step.tensor()]),
      () => torch.ops.aten._foreach_mul_([t, t], 2),
    ]);
  };
  return rng.chance(0.5) ? torch.noGrad(change) : change();
}

function out(step) {
  const { torch, rng } = step;
  const { aten } = torch.ops;
  const [a, b, c] = [step.tensor(), step.tensor(), step.tensor()];
  const call = () =>
    pick(step, [
      () => aten.add.out(a, b, { out: c }),
      () => aten.add.out(a, b, { out: a }),
      () => aten.add.out(a, aten.expand(torch.zeros([1]), [2 ** 40]), { out: c }),
      () => aten.mul.out(a, b, { out: b.t() }),
      () => aten.cat.out([a, b], 0, { out: c }),
      () => aten.cat.out([a, a], 0, { out: a }),
      () => aten.stack.out([a, b], 0, { out: c }),
      () => aten.mm.out(a, b, { out: c }),
      () => aten.index_select.out(a, 0, step.indices(4, 3), { out: c }),
      () => aten.gather.out(a, 0, b, { out: c }),
      () => aten.sort.values(a, -1, false, { values: b, indices: c }),
      () => aten.topk.values(a, 2, { values: b, indices: c }),
      () => aten.max.dim_max(a, 0, false, { max: b, max_values: c }),
      () => aten.cumsum.out(a, 0, { out: c }),
      () => aten.arange.out(rng.int(40), { out: c }),
      () => aten.masked_select.out(a, b, { out: c }),
      () => aten.nonzero.out(a, { out: c }),
      () => aten.take.out(a, b, { out: c }),
      () => aten.where.self_out(a, b, c, { out: c }),
      () => aten.unbind_copy.int_out(a, 0, { out: [b, c] }),
    ]);
  return rng.chance(0.6) ? torch.noGrad(call) : call();
}

/** Arrays over a tensor's memory, and copies of it; what is written through them no version counter sees. */
function arrays(step) {
  const { torch, rng, world } = step;
  const shared = (t) => world.putArray(rng, t.detach().toTypedArray({ copy: false }));
  return pick(step, [
    () => shared(step.tensor()),
    () => shared(step.tensor()),
    () => shared(step.tensor().contiguous()),
    () => world.putArray(rng, step.tensor().toTypedArray()),
    () => write(step, world.takeArray(rng)),
    () => write(step, world.takeArray(rng)),
    () => write(step, world.takeArray(rng)),
    () => read(world.takeArray(rng)),
    () => world.putArray(rng, undefined),
    () => wrapArray(step, world.takeArray(rng)),
    () => detachBuffer(world.takeArray(rng)),
    () => step.tensor().tolist() && undefined,
    () => torch.fromTypedArray?.(new Float32Array(6), [2, 3]),
  ]);
}

function read(array) {
  if (array !== undefined && array.length > 0) array.join('');
}

function write(step, array) {
  if (array === undefined || array.length === 0) return;
  const big = array instanceof BigInt64Array || array instanceof BigUint64Array;
  const value = step.rng.pick([0, 1, 2, 3, -1, 5, 1000, 2 ** 31, 2 ** 40]);
  const at = step.rng.int(array.length);
  const end = step.rng.chance(0.5) ? at + 1 : array.length;
  array.fill(big ? BigInt(value) : value, at, end);
}

function wrapArray(step, array) {
  if (array === undefined) return undefined;
  return step.torch.tensor(array.length > 64 ? array.subarray(0, 64) : array);
}

/** Memory of a tensor cannot be detached; that of a copy is gone afterwards. */
function detachBuffer(array) {
  if (array === undefined) return;
  try {
    structuredClone(array.buffer, { transfer: [array.buffer] });
  } catch (error) {
    if (error.name !== 'DataCloneError') throw error;
  }
}

function life(step) {
  const { torch, rng, world } = step;
  return pick(step, [
    () => void step.tensor().dispose(),
    () => void torch.dispose([step.tensor(), step.tensor()]),
    () => torch.tidy(() => torch.keep(step.tensor().add(1))),
    () => torch.tidy(() => [step.tensor().clone(), step.tensor()]),
    () => torch.tidy(() => (step.put(step.tensor().add(1)), undefined)),
    () => step.tensor().shape && undefined,
    () => String(torch.memory().numTensors) && undefined,
    () => void (world.slots[rng.int(world.slots.length)] = undefined),
    () => void globalThis.gc?.({ type: 'minor' }),
    () => void globalThis.gc?.(),
    () => void Array.from({ length: 100 }, () => torch.ones([64])),
  ]);
}

function threads(step) {
  const { torch, rng, world } = step;
  return pick(step, [
    () => send(step, torch.share(step.tensor())),
    () => send(step, torch.share(step.tensor())),
    () => send(step, torch.transfer(step.tensor().detach())),
    () => world.tickets.splice(0, 3).map((ticket) => torch.receive(ticket)),
    () => torch.receive(torch.share(step.tensor())),
    () => torch.discard(torch.share(step.tensor())),
    () => void torch.share(step.tensor()), // lost
    () => (rng.chance(0.2) ? void world.worker?.terminate() : undefined),
  ]);
}

function send(step, ticket) {
  step.world.thread(step.rng).postMessage(ticket);
}

/** What other threads of this process do with a tensor while the next steps change it. */
function asynchronous(step) {
  const { torch, rng, world } = step;
  const file = join(world.directory, String(rng.int(3)));
  const t = step.tensor();
  return pick(step, [
    () => void world.let(t.itemAsync()),
    () => void world.let(t.tolistAsync()),
    () => void world.let(t.toTypedArrayAsync(), (array) => world.putArray(rng, array)),
    () => void world.let(torch.save({ t, u: step.tensor() }, file)),
    () => void world.let(torch.load(file, { mmap: rng.chance(0.3) }), (value) => step.put(value?.t)),
    () => void replaceFile(file, Buffer.alloc(rng.int(200))),
    () => Promise.race([...world.pending, undefined]).then(() => undefined),
    () => new Promise((resolve) => setImmediate(resolve)),
  ]);
}

/** By another file of its name: to cut off a file that is mapped would end any process. */
function replaceFile(file, bytes) {
  writeFileSync(`${file}.new`, bytes);
  renameSync(`${file}.new`, file);
}

/** Any operator, method or function of the single-call fuzzer, on the tensors of the sequence. */
function anyCall(step, context) {
  const { route } = context;
  const made = route(step, context);
  context.note(made.name);
  const result = made.run();
  if (!made.name.startsWith('binding.')) return result;
  if (result instanceof Promise) return result.then((handles) => freeHandles(step.binding, handles));
  return freeHandles(step.binding, result);
}

const STEPS = [
  ...[make, make, make, view, view, view, view, resize, resize, resize, inPlace, inPlace, inPlace, out, out],
  ...[arrays, arrays, life, life, threads, asynchronous, anyCall, anyCall, anyCall, anyCall],
  ...graphSteps,
];

module.exports = { STEPS };
