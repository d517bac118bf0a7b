import { checkArgument, checkOptions, takes, TorchBindError } from '../errors';
import { Tensor, unwrap } from '../tensor/core';
import { empty } from '../tensor/creation';
import { cat } from '../tensor/generated/functions';
import { noGrad } from '../tensor/autograd/modes';
import { engine } from './engine';
import { distributedError } from './failure';
import { memberGroup, type ProcessGroup } from './group';

/** How elements of several ranks become one (PyTorch's `ReduceOp`). */
export type ReduceOp = 'sum' | 'avg' | 'product' | 'min' | 'max' | 'band' | 'bor' | 'bxor';

/** The process group of a collective. Default: all ranks. */
export interface GroupOption {
  /** Default: all ranks. */
  group?: ProcessGroup;
}

/** Options of collectives that reduce. */
export interface ReduceOptions extends GroupOption {
  /** Default `sum`. */
  op?: ReduceOp;
}

/** The rank that a collective reads from. */
export interface SourceOption extends GroupOption {
  /** The rank that gives, among all processes. Default 0, or the first of the group. */
  src?: number;
}

/** The rank that a collective writes to. */
export interface DestinationOption extends GroupOption {
  /** The rank that receives, among all processes. Default 0, or the first of the group. */
  dst?: number;
}

/** Options of `send` and `recv`. */
export interface MessageOptions extends GroupOption {
  /** Tells messages between the same two ranks apart. Default 0. */
  tag?: number;
}

/** Numbers of native/distributed/engine.h. */
const Kind = {
  allReduce: 0,
  broadcast: 1,
  reduce: 2,
  allGather: 3,
  reduceScatter: 4,
  gather: 5,
  scatter: 6,
  send: 7,
  recv: 8,
  barrier: 9,
  allToAll: 10,
} as const;

const REDUCTIONS = ['sum', 'avg', 'product', 'min', 'max', 'band', 'bor', 'bxor'];

interface Call {
  group: ProcessGroup;
  outputs?: readonly Tensor[];
  inputs?: readonly Tensor[];
  op?: ReduceOp;
  /** Rank in the group. */
  peer?: number;
  tag?: number;
}

async function run(
  name: keyof typeof Kind,
  { group, outputs = [], inputs = [], op, peer, tag }: Call,
): Promise<number> {
  const native = engine(name);
  const handles = (tensors: readonly Tensor[]): number[] => tensors.map((tensor) => unwrap(tensor, name));
  const [written, read] = [handles(outputs), handles(inputs)];
  try {
    return await native.collective(group.name, Kind[name], written, read, op ?? 'sum', peer ?? 0, tag ?? 0);
  } catch (error) {
    throw distributedError(error, `${name} (rank ${group.rank} of ${group.size})`);
  }
}

/** Refuses what cannot be written to in place, in one piece. */
function target(tensor: Tensor, where: string): Tensor {
  checkArgument(tensor instanceof Tensor, 'a tensor', tensor, where);
  if (tensor.isContiguous()) return tensor;
  throw new TorchBindError(
    `${where}: the tensor's elements must lie in row-major order without gaps. Give tensor.contiguous(), which is a copy.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

function source(tensor: Tensor, where: string): Tensor {
  checkArgument(tensor instanceof Tensor, 'a tensor', tensor, where);
  return noGrad(() => tensor.detach().contiguous());
}

function sources(tensors: readonly Tensor[], group: ProcessGroup, where: string): Tensor[] {
  checkArgument(
    Array.isArray(tensors) && tensors.length === group.size,
    `a tensor for each of the ${group.size} ranks`,
    tensors,
    where,
  );
  return tensors.map((tensor) => source(tensor, where));
}

function like(tensor: Tensor, count: number): Tensor[] {
  const { shape, dtype, device } = tensor;
  return Array.from({ length: count }, () => empty(shape, { dtype, device }));
}

function options<T extends GroupOption>(given: T | undefined, names: readonly string[], where: string): T {
  if (given === undefined) return {} as T;
  checkOptions(given, ['group', ...names], where);
  return given;
}

function reduction(op: ReduceOp | undefined, where: string): ReduceOp {
  checkArgument(op === undefined || REDUCTIONS.includes(op), `one of '${REDUCTIONS.join("', '")}' for 'op'`, op, where);
  return op ?? 'sum';
}

/** A rank among all processes as one of the group. */
function rankIn(group: ProcessGroup, rank: number | undefined, where: string, name: string): number {
  if (rank === undefined) return 0;
  const found = group.ranks.indexOf(rank);
  checkArgument(found >= 0, `one of the group's ranks (${group.ranks.join(', ')}) for '${name}'`, rank, where);
  return found;
}

function checkTag(tag: number | undefined, where: string): void {
  const isFine = tag === undefined || (Number.isSafeInteger(tag) && tag >= 0 && tag < 2 ** 24);
  checkArgument(isFine, "a whole number for 'tag'", tag, where);
}

/**
 * Gives every rank the sum, or another reduction, of the tensors of all, in place (PyTorch's `torch.distributed.all_reduce`).
 *
 * @returns the tensor
 */
export const allReduce = takes(2, async function allReduce(tensor: Tensor, given?: ReduceOptions): Promise<Tensor> {
  const { group, op } = options(given, ['op'], 'allReduce');
  const member = memberGroup(group, 'allReduce');
  await run('allReduce', { group: member, outputs: [target(tensor, 'allReduce')], op: reduction(op, 'allReduce') });
  return tensor;
});

/** The same for one rank: the tensors of the others are of no use afterwards (PyTorch's `torch.distributed.reduce`). */
export const reduce = takes(
  2,
  async function reduce(tensor: Tensor, given?: ReduceOptions & DestinationOption): Promise<Tensor> {
    const { group, op, dst } = options(given, ['op', 'dst'], 'reduce');
    const member = memberGroup(group, 'reduce');
    const peer = rankIn(member, dst, 'reduce', 'dst');
    await run('reduce', { group: member, outputs: [target(tensor, 'reduce')], op: reduction(op, 'reduce'), peer });
    return tensor;
  },
);

/**
 * Gives every rank the tensor of `src`, in place: it must have its shape and dtype before (PyTorch's
 * `torch.distributed.broadcast`).
 *
 * @returns the tensor
 */
export const broadcast = takes(2, async function broadcast(tensor: Tensor, given?: SourceOption): Promise<Tensor> {
  const { group, src } = options(given, ['src'], 'broadcast');
  const member = memberGroup(group, 'broadcast');
  const peer = rankIn(member, src, 'broadcast', 'src');
  await run('broadcast', { group: member, outputs: [target(tensor, 'broadcast')], peer });
  return tensor;
});

/** The tensors of all ranks, by rank. All have one shape and dtype (PyTorch's `torch.distributed.all_gather`). */
export const allGather = takes(2, async function allGather(tensor: Tensor, given?: GroupOption): Promise<Tensor[]> {
  const member = memberGroup(options(given, [], 'allGather').group, 'allGather');
  const input = source(tensor, 'allGather');
  const outputs = like(input, member.size);
  await run('allGather', { group: member, outputs, inputs: [input] });
  return outputs;
});

/**
 * Reduces a tensor for each rank, and gives each rank its own (PyTorch's `torch.distributed.reduce_scatter`).
 *
 * @param tensors one for each rank, all of one shape
 */
export const reduceScatter = takes(
  2,
  async function reduceScatter(tensors: readonly Tensor[], given?: ReduceOptions): Promise<Tensor> {
    const { group, op } = options(given, ['op'], 'reduceScatter');
    const member = memberGroup(group, 'reduceScatter');
    const parts = sources(tensors, member, 'reduceScatter');
    const [output] = like(parts[0]!, 1);
    const joined = noGrad(() => cat(parts.map((part) => part.reshape([-1]))));
    const outputs = [output!.view([-1])];
    await run('reduceScatter', { group: member, outputs, inputs: [joined], op: reduction(op, 'reduceScatter') });
    return output!;
  },
);

/** The tensors of all ranks, by rank, at `dst`; null at the others (PyTorch's `torch.distributed.gather`). */
export const gather = takes(2, async function gather(tensor: Tensor, given?: DestinationOption): Promise<
  Tensor[] | null
> {
  const { group, dst } = options(given, ['dst'], 'gather');
  const member = memberGroup(group, 'gather');
  const peer = rankIn(member, dst, 'gather', 'dst');
  const input = source(tensor, 'gather');
  const outputs = member.rank === peer ? like(input, member.size) : [];
  await run('gather', { group: member, outputs, inputs: [input], peer });
  return member.rank === peer ? outputs : null;
});

/**
 * Gives each rank the tensor that `src` has for it, in place (PyTorch's `torch.distributed.scatter`).
 *
 * @param tensor what is written to
 * @param tensors at `src` one for each rank; null at the others
 */
export const scatter = takes(
  3,
  async function scatter(tensor: Tensor, tensors: readonly Tensor[] | null, given?: SourceOption): Promise<Tensor> {
    const { group, src } = options(given, ['src'], 'scatter');
    const member = memberGroup(group, 'scatter');
    const peer = rankIn(member, src, 'scatter', 'src');
    const isSource = member.rank === peer;
    if (!isSource) checkArgument(tensors === null, `null at all ranks but ${member.ranks[peer]}`, tensors, 'scatter');
    const inputs = isSource ? sources(tensors!, member, 'scatter') : [];
    await run('scatter', { group: member, outputs: [target(tensor, 'scatter')], inputs, peer });
    return tensor;
  },
);

/**
 * Exchanges a tensor with every rank: of the tensors given, each goes to the rank of its place, and those that came are returned
 * (PyTorch's `torch.distributed.all_to_all`). All have one shape and dtype.
 */
export const allToAll = takes(2, async function allToAll(tensors: readonly Tensor[], given?: GroupOption): Promise<
  Tensor[]
> {
  const member = memberGroup(options(given, [], 'allToAll').group, 'allToAll');
  const parts = sources(tensors, member, 'allToAll');
  const { shape } = parts[0]!;
  const joined = noGrad(() => cat(parts.map((part) => part.reshape([1, -1]))));
  const [output] = like(joined, 1);
  await run('allToAll', { group: member, outputs: [output!], inputs: [joined] });
  return parts.map((_, i) => output!.select(0, i).view(shape));
});

/** Sends a tensor to a rank, which must receive one of its shape and dtype (PyTorch's `torch.distributed.send`). */
export const send = takes(3, async function send(tensor: Tensor, dst: number, given?: MessageOptions): Promise<void> {
  const { group, tag } = options(given, ['tag'], 'send');
  const member = memberGroup(group, 'send');
  checkArgument(typeof dst === 'number', 'a rank', dst, 'send');
  const peer = rankIn(member, dst, 'send', 'dst');
  checkArgument(peer !== member.rank, 'a rank other than this one', dst, 'send');
  checkTag(tag, 'send');
  await run('send', { group: member, inputs: [source(tensor, 'send')], peer, tag });
});

/**
 * Receives a tensor into `tensor` from a rank, or from any (PyTorch's `torch.distributed.recv`).
 *
 * @returns the rank that sent it, among all processes
 */
export const recv = takes(
  3,
  async function recv(tensor: Tensor, src?: number | null, given?: MessageOptions): Promise<number> {
    const { group, tag } = options(given, ['tag'], 'recv');
    const member = memberGroup(group, 'recv');
    const peer = src === undefined || src === null ? -1 : rankIn(member, src, 'recv', 'src');
    checkArgument(peer !== member.rank && member.size > 1, 'a rank other than this one', src, 'recv');
    checkTag(tag, 'recv');
    const from = await run('recv', { group: member, outputs: [target(tensor, 'recv')], peer, tag });
    return member.ranks[from < 0 ? peer : from]!;
  },
);

/** Resolves when all ranks have called it (PyTorch's `torch.distributed.barrier`). */
export const barrier = takes(1, async function barrier(given?: GroupOption): Promise<void> {
  await run('barrier', { group: memberGroup(options(given, [], 'barrier').group, 'barrier') });
});
