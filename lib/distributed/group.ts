import { checkArgument, checkOptions, isAbove, takes, TorchBindError } from '../errors';
import { agentHoldsStore, attemptPrefix, completeEnvironment } from './environment';
import { engine, ncclLibrary } from './engine';
import { distributedError, reportUncaught } from './failure';

/** How processes exchange tensors: `gloo` on the CPU, `nccl` between GPUs, `cpu:gloo,cuda:nccl` both. */
export type Backend = 'gloo' | 'nccl' | 'cpu:gloo,cuda:nccl';

/** Options of `initProcessGroup`. */
export interface InitProcessGroupOptions {
  /** Default `gloo`. */
  backend?: Backend;
  /** Milliseconds that a collective waits for the other ranks. Default 600,000, which is ten minutes. */
  timeout?: number;
  /** This process among all, from 0. Default: the environment variable RANK. */
  rank?: number;
  /** Number of processes. Default: the environment variable WORLD_SIZE. */
  worldSize?: number;
  /** Host of rank 0. Default: the environment variable MASTER_ADDR. */
  masterAddress?: string;
  /** Port there at which the ranks meet. Default: the environment variable MASTER_PORT. */
  masterPort?: number;
  /**
   * Keep what ranks tell one another apart from the attempts before, when torchrun restarts them. Python does not: give false in
   * a job that has Python ranks too. Default true.
   */
  separateAttempts?: boolean;
}

/** Some of the ranks, in an order of their own (PyTorch's `ProcessGroup`). */
export class ProcessGroup {
  /** @internal */
  constructor(
    /** The name by which `ops._c10d_functional` knows the group. */
    readonly name: string,
    /** The ranks that it has, by their numbers among all processes. */
    readonly ranks: readonly number[],
    /** This process in it, from 0; -1 where it is not a member. */
    readonly rank: number,
    /** Milliseconds that a collective waits for the other ranks. */
    readonly timeout: number,
  ) {}

  /** Number of ranks. */
  get size(): number {
    return this.ranks.length;
  }
}

interface World {
  group: ProcessGroup;
  backend: Backend;
  groups: Set<ProcessGroup>;
  /** How many groups were made: Python names them by that number. */
  made: number;
}

let world: World | undefined;
let isStarting = false;

const DEFAULT_TIMEOUT = 600_000;
const BACKENDS = ['gloo', 'nccl', 'cpu:gloo,cuda:nccl'];

/**
 * Joins the group of all ranks, and waits for them (PyTorch's `torch.distributed.init_process_group`). What torchrun, or another
 * launcher, set in the environment need not be given. Ranks may be Python programs.
 *
 * @throws ERR_TORCHBIND_INVALID_ARGUMENT, ERR_TORCHBIND_BUSY if the process is already in a group, ERR_TORCHBIND_THREAD in a worker thread,
 * ERR_TORCHBIND_UNSUPPORTED if this libtorch has no c10d or this torchbind no NCCL, ERR_TORCHBIND_DEVICE for NCCL without a GPU, ERR_TORCHBIND_DISTRIBUTED_TIMEOUT if ranks are missing
 */
export const initProcessGroup = takes(
  1,
  async function initProcessGroup(options: InitProcessGroupOptions = {}): Promise<ProcessGroup> {
    checkInit(options);
    const native = engine('initProcessGroup');
    if (world !== undefined || isStarting) {
      throw new TorchBindError(
        'initProcessGroup: this process has a group already. Await destroyProcessGroup() first.',
        'ERR_TORCHBIND_BUSY',
      );
    }
    const { backend = 'gloo', timeout = DEFAULT_TIMEOUT, separateAttempts = true } = options;
    const { rank, worldSize, masterAddress, masterPort } = completeEnvironment(options);
    const attempt = separateAttempts ? attemptPrefix() : '';
    const hostsStore = rank === 0 && !agentHoldsStore();
    const nccl = backend === 'gloo' ? '' : ncclLibrary('initProcessGroup');
    isStarting = true;
    try {
      await native.initGroup(backend, masterAddress, masterPort, rank, worldSize, timeout, hostsStore, attempt, nccl);
    } catch (error) {
      throw distributedError(
        error,
        `initProcessGroup (rank ${rank} of ${worldSize}, store at ${masterAddress}:${masterPort})`,
      );
    } finally {
      isStarting = false;
    }
    reportUncaught();
    const ranks = Array.from({ length: worldSize }, (_, i) => i);
    const group = new ProcessGroup('0', ranks, rank, timeout);
    world = { group, backend, groups: new Set([group]), made: 1 };
    return group;
  },
);

function checkInit(options: InitProcessGroupOptions): void {
  const names = ['backend', 'timeout', 'rank', 'worldSize', 'masterAddress', 'masterPort', 'separateAttempts'];
  checkOptions(options, names, 'initProcessGroup', {
    world_size: 'worldSize',
    master_addr: 'masterAddress',
    masteraddr: 'masterAddress',
    master_port: 'masterPort',
  });
  const { backend, timeout, rank, worldSize, masterAddress, masterPort, separateAttempts } = options;
  const check = (name: string, value: unknown, isFine: boolean, expected: string): void =>
    checkArgument(value === undefined || isFine, `${expected} for '${name}'`, value, 'initProcessGroup');
  check('backend', backend, BACKENDS.includes(backend!), `one of '${BACKENDS.join("', '")}'`);
  checkTimeout(timeout, 'initProcessGroup');
  check('rank', rank, isWhole(rank, 0), 'a whole number');
  check('worldSize', worldSize, isWhole(worldSize, 1), 'a whole number of at least 1');
  check('masterAddress', masterAddress, typeof masterAddress === 'string' && masterAddress !== '', 'a host');
  check('masterPort', masterPort, isWhole(masterPort, 0) && masterPort! < 65536, 'a port');
  check('separateAttempts', separateAttempts, typeof separateAttempts === 'boolean', 'true or false');
}

function checkTimeout(timeout: unknown, where: string): void {
  const isFine = timeout === undefined || (isAbove(timeout, 0) && Number.isSafeInteger(timeout));
  checkArgument(isFine, "milliseconds, a whole number above 0, for 'timeout'", timeout, where);
}

function isWhole(value: unknown, least: number): boolean {
  return Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= 2 ** 24;
}

/** Whether this process has joined its group (PyTorch's `torch.distributed.is_initialized`). */
export const isInitialized = takes(0, function isInitialized(): boolean {
  return world !== undefined;
});

/** This process in a group, from 0; -1 where it is not a member (PyTorch's `torch.distributed.get_rank`). */
export const rank = takes(1, function rank(group?: ProcessGroup): number {
  return groupOf(group, 'rank').rank;
});

/** Number of ranks of a group (PyTorch's `torch.distributed.get_world_size`). */
export const worldSize = takes(1, function worldSize(group?: ProcessGroup): number {
  return groupOf(group, 'worldSize').size;
});

/** The way of exchanging tensors that was chosen (PyTorch's `torch.distributed.get_backend`). */
export const getBackend = takes(0, function getBackend(): Backend {
  return worldOf('getBackend').backend;
});

/**
 * Leaves a group, or with none given all of them, and resolves when what was under way has ended (PyTorch's
 * `torch.distributed.destroy_process_group`). The program may end without.
 */
export const destroyProcessGroup = takes(1, async function destroyProcessGroup(group?: ProcessGroup): Promise<void> {
  const native = engine('destroyProcessGroup');
  const known = worldOf('destroyProcessGroup');
  const all = group === undefined || groupOf(group, 'destroyProcessGroup') === known.group;
  // The first group holds the store: it goes last.
  const leaving = all ? [...known.groups].reverse() : [group];
  if (all) world = undefined;
  for (const each of leaving) {
    known.groups.delete(each);
    await native.destroyGroup(each.name);
  }
});

/** A subgroup; `ranks` are numbers among all processes. */
export interface NewGroupOptions {
  /** Milliseconds. Default: that of the group of all ranks. */
  timeout?: number;
}

/**
 * Makes a group of some ranks. All ranks must call it, with the same ranks, including those that are not members, which get a group
 * whose `rank` is -1 (PyTorch's `torch.distributed.new_group`).
 */
export const newGroup = takes(
  2,
  async function newGroup(ranks: readonly number[], options: NewGroupOptions = {}): Promise<ProcessGroup> {
    const native = engine('newGroup');
    const known = worldOf('newGroup');
    checkOptions(options, ['timeout'], 'newGroup');
    checkTimeout(options.timeout, 'newGroup');
    const { size, rank: own } = known.group;
    const isFine =
      Array.isArray(ranks) &&
      ranks.length > 0 &&
      ranks.length <= size &&
      new Set(ranks).size === ranks.length &&
      ranks.every((each) => isWhole(each, 0) && each < size);
    checkArgument(isFine, `different ranks from 0 to ${size - 1}`, ranks, 'newGroup');
    const sorted = [...ranks].sort((a, b) => a - b);
    const name = String(known.made++);
    const timeout = options.timeout ?? known.group.timeout;
    const group = new ProcessGroup(name, sorted, sorted.indexOf(own), timeout);
    try {
      if (await native.newGroup(name, sorted, timeout)) known.groups.add(group);
    } catch (error) {
      throw distributedError(error, `newGroup (rank ${own} of ${size}, ranks ${sorted.join(', ')})`);
    }
    return group;
  },
);

function worldOf(where: string): World {
  if (world !== undefined) return world;
  throw new TorchBindError(
    `${where}: this process has joined no group. Await distributed.initProcessGroup() first.`,
    'ERR_TORCHBIND_NO_PROCESS_GROUP',
  );
}

/** The group that is given, or that of all ranks. @throws ERR_TORCHBIND_NO_PROCESS_GROUP */
export function groupOf(group: ProcessGroup | undefined, where: string): ProcessGroup {
  const known = worldOf(where);
  if (group === undefined) return known.group;
  checkArgument(group instanceof ProcessGroup, 'a ProcessGroup', group, where);
  if (group.rank >= 0 && !known.groups.has(group)) {
    throw new TorchBindError(`${where}: the group '${group.name}' was destroyed.`, 'ERR_TORCHBIND_NO_PROCESS_GROUP');
  }
  return group;
}

/** The same for a collective, which only members take part in. */
export function memberGroup(group: ProcessGroup | undefined, where: string): ProcessGroup {
  const member = groupOf(group, where);
  if (member.rank >= 0) return member;
  throw new TorchBindError(
    `${where}: this process is not a member of the group of ranks ${member.ranks.join(', ')}.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}
