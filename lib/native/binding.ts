/**
 * The whole seam between TypeScript and C++, as types. Nothing else crosses it.
 *
 * Tensors cross as integer handles. Arguments are checked on both sides: TypeScript gives the friendly message,
 * C++ makes sure that no value, however wrong, can crash the process.
 */

/** Slot and generation of a tensor in the environment's table: a positive integer below 2^53; 0 is never a tensor. */
export type Handle = number;

/** Index of a looked-up operator in the process-wide operator list. */
export type OperatorId = number;

/** Keeps GC-managed tensors alive: when the token is collected, so are the tensors that were given it. */
export type Token = object;

/** A random number generator owned by C++ (type-tagged external). */
export type NativeGenerator = object & { readonly __generator: unique symbol };

/** What crosses as a number of any kind. */
type Scalar = number | bigint | boolean | { re: number; im: number };

/** Keeps storages where they are while another thread uses them (type-tagged external). */
export type NativeLoan = object & { readonly __loan: unique symbol };

/** What averages gradients over the ranks of a group: a c10d::Reducer (type-tagged external). */
export type NativeReducer = object & { readonly __reducer: unique symbol };

/** What takes a hook away again (type-tagged external). */
export type NativeHook = object & { readonly __hook: unique symbol };

/** A stream of a device (type-tagged external). */
export type NativeStream = object & { readonly __stream: unique symbol };

/** An event of a device (type-tagged external). */
export type NativeEvent = object & { readonly __event: unique symbol };

/** Names as in native/backends.cc. */
export type BackendSwitch =
  | 'cuda.matmul.allowTf32'
  | 'cudnn.allowTf32'
  | 'cudnn.enabled'
  | 'cudnn.benchmark'
  | 'cudnn.deterministic'
  | 'cuda.flashSdp'
  | 'cuda.memEfficientSdp'
  | 'cuda.mathSdp'
  | 'cuda.cudnnSdp';

/** Of one figure of an allocator. */
export type NativeStatistic = [current: number, peak: number, allocated: number, freed: number];

export interface ArgumentSchema {
  name: string;
  /** The type as the schema prints it: `Tensor`, `Tensor?`, `int[]`, `SymInt[2]`, `ScalarType?`, `Scalar`, ... */
  type: string;
  kwargOnly: boolean;
  hasDefault: boolean;
  /** The argument is written to and also returned by the operator (`out=`). */
  isOut: boolean;
}

export interface OperatorSchema {
  /** `aten::add` */
  name: string;
  /** `Tensor`; empty for the default overload. */
  overload: string;
  /** The full declaration, as PyTorch prints it. */
  declaration: string;
  arguments: ArgumentSchema[];
  returns: string[];
  /** Names of the returns; empty strings where the schema names none. */
  returnNames: string[];
  /** For each return, the index of the argument that it is (in-place and out= operators), or -1 for a new value. */
  aliases: number[];
  /** How `callDirect` takes it: 0 not at all, 1 a tensor, 2 two tensors, 3 a tensor and sizes, 4 a tensor and a number. */
  direct: number;
  /** Why calls are refused unless `allowUnsafe` was called: its kernel trusts its arguments. */
  unsafe: string | null;
}

/** What native code needs from TypeScript, handed over once an environment. */
export interface NativeHooks {
  TorchBindError: new (message: string, code: string) => Error;
  /** state[0] is set to 1 when a call makes a tensor that needs a token of its own outside scopes (big, or with a graph). */
  state: Uint32Array;
  /** What `callDirect` takes and gives: at least 11 numbers. */
  slots: Float64Array;
}

/** A number or boolean, null for a new dimension, '...', [start, stop, step] for a slice, or [tensor]. */
export type NativeIndex = number | boolean | null | '...' | [Handle] | (number | null)[];

export interface MemoryCounts {
  tensors: number;
  bytes: number;
  /** Bytes that V8 was told of: those of storages that belong to the garbage collector. */
  reported: number;
}

export interface StorageInfo {
  /** Equal for tensors that share one storage, unique among live storages. */
  id: number;
  nbytes: number;
}

export interface ReadResult {
  handle: Handle;
  crc32: number;
}

/** Sums of products and squared differences of two vectors a and b; the last two are 0 where they are equal. */
export interface DistanceSums {
  aa: number;
  bb: number;
  ab: number;
  /** Whether both have the same dtype and bits. */
  equal: boolean;
  dd: number;
  maxAbs: number;
}

/** What the NVIDIA driver says of a device. Sizes in bytes, rates in kHz. */
export interface DeviceProperties {
  name: string;
  /** Compute capability `major.minor`: 9 and 0 for an H100. */
  major: number;
  minor: number;
  totalMemory: number;
  multiProcessorCount: number;
  warpSize: number;
  maxThreadsPerBlock: number;
  maxThreadsPerMultiProcessor: number;
  regsPerMultiprocessor: number;
  sharedMemoryPerBlock: number;
  sharedMemoryPerBlockOptin: number;
  sharedMemoryPerMultiprocessor: number;
  l2CacheSize: number;
  clockRate: number;
  memoryClockRate: number;
  /** Bits. */
  memoryBusWidth: number;
  /** 1 where the GPU shares the memory of the CPU. */
  isIntegrated: number;
  uuid: string;
}

export interface Binding {
  setup(hooks: NativeHooks): void;
  /** The libtorch version that the addon was compiled for, and the vector instructions that its own kernels use. */
  versions(): { torch: string; cpuCapability: string };

  // dispatch.cc: every operator, boxed
  findOperator(name: string, overload: string): OperatorId;
  /** Every operator that has a schema, as `aten::add.Tensor`, sorted. */
  operatorNames(): string[];
  schema(op: OperatorId): OperatorSchema;
  /**
   * Positional arguments in schema order, tensors as handles; `undefined` takes the schema's default.
   * One return comes as itself, several as an array; a return that is one of the arguments comes as null.
   */
  call(op: OperatorId, ...args: unknown[]): unknown;
  /**
   * Calls an operator that has a `direct` form. Takes from `slots`: the operator, the first tensor, and the second one,
   * or the number, or how many sizes there are (at most 8) and the sizes. Leaves the result's handle in slots[0].
   */
  callDirect(this: void): void;
  loadLibrary(path: string): void;
  /** Lets an operator of this name be called that is refused because its kernel trusts its arguments. */
  allowUnsafe(name: string): void;

  // tensor_table.cc: handles, scopes, garbage collection
  /** With the tensor's own token, if it has one, so that the bytes reported to V8 are taken back at once. */
  dispose(handle: Handle, token?: Token): boolean;
  disposeMany(handles: Float64Array, count: number): number;
  isAlive(handle: Handle): boolean;
  /** Another handle of the same tensor, to be disposed by itself. */
  alias(handle: Handle): Handle;
  /** A token that keeps one tensor alive; its bytes are reported to V8. */
  ownToken(handle: Handle): Token;
  /** An empty token, to be filled later. */
  newToken(): Token;
  /** Puts the first `count` handles under `token`: they are released when the token is collected. */
  fillToken(token: Token, handles: Float64Array, count: number): void;
  memory(): MemoryCounts;
  /** Between a call with true and one with false, no garbage collection is forced because tensors were made. */
  deferCollections(on: boolean): void;
  /** While on, the memory of new tensors is not reported to V8: another thread holds it. */
  setBorrowing(on: boolean): void;

  // tickets.cc: tensors on their way to other threads
  /** A ticket, process-wide, for another tensor over the same storage; `thread` is the sender's threadId. */
  shareTensor(handle: Handle, thread: number): number;
  /** As `shareTensor` for many tensors, whose memory may move again once `endLoan` is called. */
  lendTensors(handles: readonly Handle[], thread: number): { tickets: number[]; loan: NativeLoan };
  endLoan(loan: NativeLoan): void;
  receiveTensor(ticket: number): Handle;
  /** Whether there was something to free. */
  discardTensor(ticket: number): boolean;
  /** This thread started a worker: its tickets end with this thread at the latest. */
  workerStarted(thread: number): void;
  /** The worker does not concern this thread any more; with `isLost` what it shared and nobody received is freed. */
  workerEnded(thread: number, isLost: boolean): void;
  /** Tickets of all threads that nobody has received. */
  waitingTickets(): number;

  // tensor_info.cc
  shape(handle: Handle): number[];
  strides(handle: Handle): number[];
  storageOffset(handle: Handle): number;
  /** c10::ScalarType as an integer. */
  dtype(handle: Handle): number;
  /** `cpu`, `cuda:0`, ... */
  device(handle: Handle): string;
  layout(handle: Handle): string;
  storageInfo(handle: Handle): StorageInfo;
  isLeaf(handle: Handle): boolean;
  requiresGrad(handle: Handle): boolean;
  setRequiresGrad(handle: Handle, value: boolean): void;
  gradFnName(handle: Handle): string | null;

  // storage.cc: bytes in and out
  /** Copies `data` into a new CPU tensor. */
  fromTypedArray(data: ArrayBufferView, shape: number[], dtype: number): Handle;
  /** Copies the tensor's elements, contiguous, into an ArrayBuffer. */
  toArrayBuffer(handle: Handle): ArrayBuffer;
  /** The value of a one-element tensor; complex numbers come as [re, im]. */
  item(handle: Handle): number | bigint | boolean | [number, number];
  /**
   * A copy of the values as they are now, on the CPU and without a graph. Waits for the device off the main thread. null
   * where such a copy is of no use: of what is not dense and plain, and with `wantsOne` of other than one element.
   */
  copyToCpu(handle: Handle, wantsOne: boolean): Promise<Handle> | null;
  /** Maps a whole file (private, copy on write) as a 1-D uint8 tensor. */
  mapFile(fd: number, nbytes: number): Handle;
  /** A uint8 tensor with a storage of its own over bytes [offset, offset + nbytes) of another; nothing is copied. */
  sliceBytes(handle: Handle, offset: number, nbytes: number): Handle;
  /**
   * Reads file bytes into a new uint8 CPU tensor, off the main thread; the CRC-32 is that of the bytes, or that of no
   * bytes where `checksum` is false (default true).
   */
  readBytes(fd: number, offset: number, nbytes: number, checksum?: boolean): Promise<ReadResult>;
  /** A uint8 CPU tensor whose content is undefined until `readInto` has filled it. */
  allocateBytes(nbytes: number): Handle;
  /**
   * Reads `nbytes` file bytes from `position` into the tensor's *storage* from byte `offset` on, off the main thread.
   * Returns their CRC-32, or that of no bytes where `checksum` is false (default true).
   */
  readInto(
    fd: number,
    position: number,
    handle: Handle,
    offset: number,
    nbytes: number,
    checksum?: boolean,
  ): Promise<number>;
  /**
   * Writes bytes [offset, offset + nbytes) of the tensor's *storage* at `position` of the file, off the main thread.
   * Returns their CRC-32, or that of no bytes where `checksum` is false (default true). Device memory is copied to the
   * CPU first.
   */
  writeStorage(
    fd: number,
    position: number,
    handle: Handle,
    offset: number,
    nbytes: number,
    checksum?: boolean,
  ): Promise<number>;
  /** A tensor of any dtype, strides and offset (in elements) over the storage of `handle`. Bounds are checked. */
  viewStorage(handle: Handle, dtype: number, storageOffset: number, shape: number[], strides: number[]): Handle;
  /** Bytes an element takes. */
  itemSize(dtype: number): number;

  /** An ArrayBuffer over the whole storage of a dense CPU tensor; it keeps the storage alive. */
  shareStorage(handle: Handle): ArrayBuffer;
  /** A tensor of no dimensions that is promoted as a plain number is. */
  wrappedNumber(value: Scalar): Handle;

  // tensor_jobs.cc: copies and comparisons of dense tensors as they are at the call, off the main thread
  /** Contiguous copies on the CPU, of another dtype where one is given. */
  packTensors(tensors: readonly Handle[], dtype: number | null): Promise<Handle[]>;
  /** Copies values into tensors. Nobody else may use their memory meanwhile. */
  copyTensors(targets: readonly Handle[], sources: readonly Handle[]): Promise<void>;
  /** Whether each pair has one dtype and shape, and equal numbers or equal bits. */
  equalTensors(first: readonly Handle[], second: readonly Handle[]): Promise<boolean[]>;
  /** Sums over the elements from `start` on of two contiguous tensors of the same size, computed in float64. */
  measureDistance(a: Handle, b: Handle, start: number, length: number): Promise<DistanceSums>;
  /** A uint8 tensor over a copy on write of each tensor's storage; 0 where the storage can have none. */
  lazyCopies(tensors: readonly Handle[]): Handle[];
  /** Whether no other handle or view has the tensor or its storage. */
  isSoleOwner(handle: Handle): boolean;

  // indexing.cc: Python's x[...]
  getIndex(handle: Handle, indices: NativeIndex[]): Handle;
  setIndex(handle: Handle, indices: NativeIndex[], value: Scalar | [Handle]): void;

  // autograd.cc
  backward(
    tensors: Handle[],
    gradients: (Handle | null)[],
    retainGraph: boolean,
    createGraph: boolean,
    inputs: Handle[],
  ): void;
  grad(
    outputs: Handle[],
    inputs: Handle[],
    gradOutputs: (Handle | null)[],
    retainGraph: boolean,
    createGraph: boolean,
    allowUnused: boolean,
  ): (Handle | null)[];
  getGrad(handle: Handle): Handle | null;
  setGrad(handle: Handle, gradient: Handle | null): void;
  gradMode(): boolean;
  setGradMode(enabled: boolean): void;
  inferenceModeEnabled(): boolean;
  /** Enters and leaves strictly nested. */
  enterInferenceMode(enabled: boolean): void;
  exitInferenceMode(): void;
  /** For tests: the engine runs on a thread of its own always, as it does where devices take part. */
  setEngineAlwaysBeside(always: boolean): void;

  // hooks.cc: functions get handles, which are theirs, and give a handle or null
  registerHook(handle: Handle, hook: (gradient: Handle) => Handle | null): NativeHook;
  registerPostAccumulateGradHook(handle: Handle, hook: (tensor: Handle) => Handle | null): NativeHook;
  removeHook(hook: NativeHook): void;
  /** Whether any hook is registered on the tensor. */
  hasHooks(handle: Handle): boolean;
  retainGrad(handle: Handle): void;
  retainsGrad(handle: Handle): boolean;

  // custom_function.cc
  /**
   * Calls `forward`, which gives [outputs, saved, dirty, nonDifferentiable, materializeGrads], and records it under
   * `name`. `backward` gets the number of the call and a gradient for each output, and gives one for each input.
   * Returns new handles of the outputs; null for an output that is an input changed in place.
   */
  applyFunction(
    name: string,
    inputs: Handle[],
    forward: () => unknown[],
    backward: (call: number, gradients: (Handle | null)[]) => (Handle | null)[],
  ): (Handle | null)[];
  /** What was saved, while that call of backward runs. */
  savedTensors(call: number): (Handle | null)[];

  // autocast.cc
  /** Whether it is on, the lower precision, and whether copies of weights are kept. */
  getAutocast(device: string): [enabled: boolean, dtype: number, cacheEnabled: boolean];
  setAutocast(device: string, enabled: boolean, dtype: number, cacheEnabled: boolean): void;
  /** Enters and leaves strictly nested; the copies are dropped at the outermost end. */
  enterAutocast(): void;
  exitAutocast(): void;

  // random.cc
  manualSeed(seed: bigint): void;
  getRngState(device: string): Handle;
  setRngState(state: Handle, device: string): void;
  newGenerator(device: string): NativeGenerator;
  generatorSeed(generator: NativeGenerator, seed: bigint): void;
  generatorGetState(generator: NativeGenerator): Handle;
  generatorSetState(generator: NativeGenerator, state: Handle): void;

  // device.cc
  /** Type of the accelerator that this libtorch was built for and can use now (`cuda`), or null. */
  accelerator(): string | null;
  deviceCount(): number;
  synchronize(device: string): void;
  emptyCache(): void;
  deviceMemory(device: string): { allocated: number; reserved: number; peakAllocated: number; peakReserved: number };
  resetPeakMemory(device: string): void;
  /** Bytes of the device itself. */
  freeMemory(device: string): { free: number; total: number };
  /** Figures of the allocator, with the names of Python's `memory_stats`. */
  deviceStatistics(device: string): Record<string, NativeStatistic | number>;
  currentDevice(): number;
  setDevice(device: string): void;
  /** c10::ScalarType of tensors made without a dtype. */
  defaultDtype(): number;
  setDefaultDtype(dtype: number): void;
  getNumThreads(): number;
  setNumThreads(count: number): void;
  /** Ends the calling thread's pool of OpenMP threads. Its next parallel kernel starts one again. */
  endThreadPool(): void;

  // streams.cc
  newStream(device: string, priority: number): NativeStream;
  currentStream(device: string): NativeStream;
  defaultStream(device: string): NativeStream;
  /** On this thread; its device becomes the current one too. */
  setCurrentStream(stream: NativeStream): void;
  streamInfo(stream: NativeStream): [device: string, id: bigint];
  queryStream(stream: NativeStream): boolean;
  synchronizeStream(stream: NativeStream): void;
  recordStream(handle: Handle, stream: NativeStream): void;
  newEvent(timing: boolean): NativeEvent;
  recordEvent(event: NativeEvent, stream: NativeStream): void;
  waitEvent(event: NativeEvent, stream: NativeStream): void;
  queryEvent(event: NativeEvent): boolean;
  synchronizeEvent(event: NativeEvent): void;
  /** Milliseconds. */
  elapsedTime(start: NativeEvent, end: NativeEvent): number;

  // backends.cc
  getSwitch(name: BackendSwitch): boolean;
  setSwitch(name: BackendSwitch, on: boolean): void;
  /** As the libraries count: 13000 for CUDA 13.0. */
  backendVersions(): { cuda: number | null; cudnn: number | null };
  float32MatmulPrecision(): 'highest' | 'high' | 'medium';
  setFloat32MatmulPrecision(precision: string): void;
  deterministicAlgorithms(): [on: boolean, warnOnly: boolean];
  setDeterministicAlgorithms(on: boolean, warnOnly: boolean): void;

  // cuda_driver.cc
  deviceProperties(device: string): DeviceProperties;
  /** The CUDA version that the driver can serve: 13000 for 13.0. */
  driverVersion(): number;

  // distributed/bindings.cc: groups are known by name; what gives a promise runs on threads of its own
  /** Opens the library that holds c10d's part of the addon. Once it is open, nothing happens. */
  openDistributed(path: string): void;
  initGroup(
    backend: string,
    host: string,
    port: number,
    rank: number,
    size: number,
    timeout: number,
    hostsStore: boolean,
    attempt: string,
    ncclLibrary: string,
  ): Promise<void>;
  /** Whether this process is a member. */
  newGroup(name: string, ranks: number[], timeout: number): Promise<boolean>;
  destroyGroup(name: string): Promise<void>;
  /** `kind` is a number of engine.h, `peer` a rank in the group. The rank that a message came from, or -1. */
  collective(
    group: string,
    kind: number,
    outputs: Handle[],
    inputs: Handle[],
    reduce: string,
    peer: number,
    tag: number,
  ): Promise<number>;
  /** Waits for the other ranks. Afterwards `states`, parameters and buffers, are those of rank 0. */
  makeReducer(...args: ReducerArguments): NativeReducer;
  makeReducerOffLoop(...args: ReducerArguments): Promise<NativeReducer>;
  prepareForForward(reducer: NativeReducer): void;
  prepareForBackward(reducer: NativeReducer, outputs: Handle[]): void;
  /** Gives tensors the values of rank 0. */
  broadcastStates(reducer: NativeReducer, tensors: Handle[]): void;
  /** The backward pass of a loss, averaged, on a thread of its own. Its graph may call no JavaScript function. */
  backwardOffLoop(reducer: NativeReducer, loss: Handle): Promise<void>;
  freeReducer(reducer: NativeReducer): void;
}

/** What `makeReducer` takes. */
export type ReducerArguments = [
  group: string,
  parameters: Handle[],
  names: string[],
  states: Handle[],
  bucketBytes: number,
  firstBucketBytes: number,
  findUnused: boolean,
  bucketViews: boolean,
  staticGraph: boolean,
  half: boolean,
];
