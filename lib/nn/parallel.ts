/**
 * Training on several processes (PyTorch's `torch.nn.parallel`).
 *
 * @module
 */

import { checkArgument, checkFlags, checkOptions, isAbove, TorchBindError } from '../errors';
import { engine } from '../distributed/engine';
import { distributedError } from '../distributed/failure';
import { memberGroup, type ProcessGroup } from '../distributed/group';
import type { NativeReducer, ReducerArguments } from '../native/binding';
import { isPlainObject, isThenable } from '../objects';
import { isGradEnabled } from '../tensor/autograd';
import { unwrap } from '../tensor/core';
import { Tensor } from '../tensor/tensor';
import { Module } from './module';
import { reducerArguments } from './reducer';

/** Options of `DistributedDataParallel`. */
export interface DistributedDataParallelOptions {
  /** Default: all ranks. */
  group?: ProcessGroup;
  /** Give all ranks the buffers of rank 0 before each forward pass. Default true. */
  broadcastBuffers?: boolean;
  /** MiB of gradients in one bucket. Default 25; the first bucket has 1. */
  bucketCapMb?: number;
  /** Look in each forward pass which parameters it used, where it does not use all. Default false: all must be used. */
  findUnusedParameters?: boolean;
  /** Let gradients be views of what is sent, which saves their memory once. Default false. */
  gradientAsBucketView?: boolean;
  /** Every pass uses the same parameters in the same order. Default false. */
  staticGraph?: boolean;
  /** Send gradients as float16, which halves the traffic (PyTorch's `fp16_compress_hook`). Default false. */
  fp16Compress?: boolean;
}

const OPTIONS = [
  'group',
  'broadcastBuffers',
  'bucketCapMb',
  'findUnusedParameters',
  'gradientAsBucketView',
  'staticGraph',
  'fp16Compress',
];

const SYNONYMS = {
  process_group: 'group',
  broadcast_buffers: 'broadcastBuffers',
  bucket_cap_mb: 'bucketCapMb',
  find_unused_parameters: 'findUnusedParameters',
  gradient_as_bucket_view: 'gradientAsBucketView',
  static_graph: 'staticGraph',
} as const;

const WHERE = 'DistributedDataParallel';

/** A module with a forward pass. */
interface Callable extends Module {
  forward(...args: never[]): unknown;
}

/** A reducer that was made off the event loop, on its way into the constructor. */
class Made {
  constructor(readonly reducer: NativeReducer) {}
}

/**
 * Trains one module on several ranks, each with batches of its own (PyTorch's `torch.nn.parallel.DistributedDataParallel`, whose
 * engine this is: ranks may be Python programs). Weights begin as those of rank 0, and `backward()` gives every rank the mean of
 * all ranks' gradients, which are sent while it computes. Its state dict has the module's keys after `module.`, as in Python.
 *
 * `backward()` waits for the other ranks, at most for the group's timeout.
 */
export class DistributedDataParallel<M extends Callable> extends Module {
  readonly #reducer: NativeReducer;
  readonly #options: DistributedDataParallelOptions;
  readonly #where: string;
  #syncs = true;
  /** As Python has it: buffers are not sent in the pass that follows one without gradients. */
  #syncsBuffers = true;

  /**
   * Waits for the other ranks, as in Python, and so holds the event loop: `DistributedDataParallel.create` does not.
   *
   * @throws ERR_TORCHBIND_NO_PROCESS_GROUP, ERR_TORCHBIND_INVALID_ARGUMENT where no parameter is trained,
   *   ERR_TORCHBIND_DISTRIBUTED where the ranks' modules differ
   */
  constructor(
    readonly module: M,
    options: DistributedDataParallelOptions = {},
    made?: unknown,
  ) {
    super();
    const { group, args } = reducerOf(module, options);
    this.#where = `${WHERE} (rank ${group.rank} of ${group.size})`;
    this.#options = options;
    this.#reducer = made instanceof Made ? made.reducer : this.#guarded(() => engine(WHERE).makeReducer(...args));
  }

  /** Makes one without blocking the event loop while it waits for the other ranks. */
  static async create<M extends Callable>(
    module: M,
    options: DistributedDataParallelOptions = {},
  ): Promise<DistributedDataParallel<M>> {
    const { group, args } = reducerOf(module, options);
    try {
      const made = new Made(await engine(WHERE).makeReducerOffLoop(...args));
      return new DistributedDataParallel(module, options, made);
    } catch (error) {
      throw distributedError(error, `${WHERE} (rank ${group.rank} of ${group.size})`);
    }
  }

  /** The module's forward pass, after which `backward()` averages gradients. */
  forward(...args: Parameters<M['forward']>): ReturnType<M['forward']> {
    const native = engine(WHERE);
    const reduces = isGradEnabled() && this.#syncs;
    if (reduces) this.#guarded(() => native.prepareForForward(this.#reducer));
    this.#sendBuffers();
    const output = this.module.forward(...args) as ReturnType<M['forward']>;
    this.#syncsBuffers = reduces;
    if (!reduces) return output;
    const { findUnusedParameters = false, staticGraph = false } = this.#options;
    const outputs = findUnusedParameters && !staticGraph ? tensorsOf(output) : [];
    const handles = outputs.map((tensor) => unwrap(tensor, WHERE));
    this.#guarded(() => native.prepareForBackward(this.#reducer, handles));
    return output;
  }

  /**
   * Runs a function, possibly async, in which gradients accumulate on each rank without communication. The next
   * `backward()` outside it averages the sums. Use it for all but the last batch of an update (PyTorch's `no_sync`).
   */
  noSync<T>(fn: () => T): T {
    checkArgument(typeof fn === 'function', 'a function', fn, 'noSync()');
    const before = this.#syncs;
    const restore = (): void => void (this.#syncs = before);
    this.#syncs = false;
    let result: T;
    try {
      result = fn();
    } catch (error) {
      restore();
      throw error;
    }
    if (isThenable(result)) return Promise.resolve(result).finally(restore) as T;
    restore();
    return result;
  }

  #sendBuffers(): void {
    const { broadcastBuffers = true } = this.#options;
    if (!broadcastBuffers || !this.#syncsBuffers) return;
    const buffers = this.module.buffers().map((buffer) => unwrap(buffer, WHERE));
    if (buffers.length > 0) this.#guarded(() => engine(WHERE).broadcastStates(this.#reducer, buffers));
  }

  #guarded<T>(call: () => T): T {
    try {
      return call();
    } catch (error) {
      throw distributedError(error, this.#where);
    }
  }
}

function reducerOf(
  module: Callable,
  options: DistributedDataParallelOptions,
): { group: ProcessGroup; args: ReducerArguments } {
  checkArgument(module instanceof Module, 'a module', module, WHERE);
  checkOptions(options, OPTIONS, WHERE, SYNONYMS);
  const { group: given, bucketCapMb, findUnusedParameters = false, staticGraph = false } = options;
  const { broadcastBuffers, gradientAsBucketView = false, fp16Compress = false } = options;
  checkFlags({ broadcastBuffers, findUnusedParameters, gradientAsBucketView, staticGraph, fp16Compress }, WHERE);
  checkArgument(bucketCapMb === undefined || isAbove(bucketCapMb, 0), "MiB for 'bucketCapMb'", bucketCapMb, WHERE);
  const group = memberGroup(given, WHERE);
  const trained = module.namedParameters().filter(([, { requiresGrad }]) => requiresGrad);
  if (trained.length === 0) {
    throw new TorchBindError(
      `${WHERE}: no parameter of the module requires a gradient: nothing to average.`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  const states = [...module.parameters(), ...module.buffers()];
  return { group, args: reducerArguments(group.name, trained, states, WHERE, options) };
}

/** The tensors in what a forward pass gave. */
function tensorsOf(output: unknown): Tensor[] {
  if (output instanceof Tensor) return [output];
  if (Array.isArray(output) || output instanceof Set) return [...output].flatMap(tensorsOf);
  if (output instanceof Map) return [...output.values()].flatMap(tensorsOf);
  return isPlainObject(output) ? Object.values(output).flatMap(tensorsOf) : [];
}
