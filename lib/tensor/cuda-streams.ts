import { checkArgument, checkOptions, TorchBindError } from '../errors';
import type { NativeEvent, NativeStream } from '../native/binding';
import { native } from '../native/native';
import { refuseAsyncFunction, refuseAsyncResult } from './autograd/synchronous';
import { deviceName, requireCuda } from './cuda-device';
import { type Tensor, unwrap } from './tensor';
import type { DeviceName } from './schema-types';

/** Options of a CUDA stream. */
export interface StreamOptions {
  /** Default: the current CUDA device. */
  device?: DeviceName | number;
  /** Lower numbers come first; CUDA has 0 and a few below. Default 0. */
  priority?: number;
}

/** Options of a CUDA event. */
export interface EventOptions {
  /** Record the time, which `elapsedTime` needs. Default false. */
  enableTiming?: boolean;
}

/**
 * A queue of work on a CUDA device (PyTorch's `torch.cuda.Stream`): what it is given is done in order, and next to what other
 * streams do. `cuda.stream(stream, fn)` gives it the work of a function.
 */
export class Stream {
  /** `cuda:0` */
  readonly device: DeviceName;
  /** Equal streams have equal ids. */
  readonly id: bigint;
  /** @internal */
  readonly native: NativeStream;

  /**
   * One of the streams that libtorch keeps for the device.
   *
   * @param existing for internal use: a stream that is there already
   * @throws ERR_TORCHBIND_DEVICE without a CUDA device
   */
  constructor(options: StreamOptions = {}, existing: NativeStream = makeStream(options)) {
    const [device, id] = native().streamInfo(existing);
    this.device = device as DeviceName;
    this.id = id;
    this.native = existing;
  }

  /** Whether all its work is done. */
  query(): boolean {
    return native().queryStream(this.native);
  }

  /** Waits until all its work is done. Nothing else runs on this thread meanwhile: `synchronizeAsync` lets it. */
  synchronize(): void {
    native().synchronizeStream(this.native);
  }

  /** Resolves when the work that the stream has now is done. */
  async synchronizeAsync(): Promise<void> {
    return this.recordEvent().synchronizeAsync();
  }

  /** What it is given from now on waits for the event. */
  waitEvent(event: Event): void {
    event.wait(this);
  }

  /** What it is given from now on waits for the work that another stream has now. */
  waitStream(other: Stream): void {
    this.waitEvent(checkStream(other, 'Stream.waitStream()').recordEvent());
  }

  /** An event that happens when the work that the stream has now is done; a new one unless one is given. */
  recordEvent(event: Event = new Event()): Event {
    event.record(this);
    return event;
  }

  equals(other: Stream): boolean {
    return other instanceof Stream && other.device === this.device && other.id === this.id;
  }
}

/**
 * A mark in a stream (PyTorch's `torch.cuda.Event`): to wait for, and to measure time between.
 */
export class Event {
  readonly #native: NativeEvent;

  /** @throws ERR_TORCHBIND_DEVICE without a CUDA device */
  constructor(options: EventOptions = {}) {
    checkOptions(options, ['enableTiming'], 'cuda.Event');
    requireCuda('cuda.Event');
    this.#native = native().newEvent(options.enableTiming ?? false);
  }

  /** Marks the end of the work that a stream has now; the current stream unless one is given. */
  record(stream: Stream = currentStream()): void {
    native().recordEvent(this.#native, checkStream(stream, 'Event.record()').native);
  }

  /** Later work on a stream waits for the event. Default: the current stream. */
  wait(stream: Stream = currentStream()): void {
    native().waitEvent(this.#native, checkStream(stream, 'Event.wait()').native);
  }

  /** Whether it has happened; true where it was never recorded. */
  query(): boolean {
    return native().queryEvent(this.#native);
  }

  /** Waits for it. Nothing else runs on this thread meanwhile: `synchronizeAsync` lets it. */
  synchronize(): void {
    native().synchronizeEvent(this.#native);
  }

  /** Resolves when it has happened: it is looked for in each turn of the event loop. */
  async synchronizeAsync(): Promise<void> {
    while (!this.query()) await new Promise((resolve) => setImmediate(resolve));
  }

  /** Milliseconds from this event to a later one, which both have happened and were made with `enableTiming`. */
  elapsedTime(end: Event): number {
    checkArgument(end instanceof Event, 'an Event', end, 'Event.elapsedTime()');
    return native().elapsedTime(this.#native, end.#native);
  }
}

function makeStream(options: StreamOptions): NativeStream {
  checkOptions(options, ['device', 'priority'], 'cuda.Stream');
  requireCuda('cuda.Stream');
  const { device, priority = 0 } = options;
  return native().newStream(deviceName(device, 'cuda.Stream'), priority);
}

export function checkStream(stream: unknown, where: string): Stream {
  checkArgument(stream instanceof Stream, 'a Stream', stream, where);
  return stream as Stream;
}

/** The stream that this thread's work on a device goes to (PyTorch's `torch.cuda.current_stream`). */
export function currentStream(device?: DeviceName | number): Stream {
  requireCuda('cuda.currentStream()');
  return new Stream({}, native().currentStream(deviceName(device, 'cuda.currentStream()')));
}

/** The stream that work goes to where no other is chosen (PyTorch's `torch.cuda.default_stream`). */
export function defaultStream(device?: DeviceName | number): Stream {
  requireCuda('cuda.defaultStream()');
  return new Stream({}, native().defaultStream(deviceName(device, 'cuda.defaultStream()')));
}

/**
 * Runs a synchronous function whose work goes to a stream (PyTorch's `with torch.cuda.stream(stream)`), and makes the stream
 * before the current one again. Other streams that use its results wait: `waitStream`.
 *
 * @throws {TorchBindError} `ERR_TORCHBIND_ASYNC_MODE` when `fn` is async
 */
export function withStream<T>(stream: Stream, fn: () => T): T {
  const { device, native: target } = checkStream(stream, 'cuda.stream()');
  refuseAsyncFunction(fn, 'cuda.stream');
  const deviceBefore = native().currentDevice();
  const before = native().currentStream(device);
  native().setCurrentStream(target);
  try {
    const result = fn();
    refuseAsyncResult(result, 'cuda.stream');
    return result;
  } finally {
    native().setCurrentStream(before);
    native().setDevice(`cuda:${deviceBefore}`);
  }
}

/**
 * Tells the allocator that a stream uses a tensor (PyTorch's `Tensor.record_stream`): after the tensor is freed its memory is
 * not given to others before the work that the stream has now is done.
 */
export function recordStream(tensor: Tensor, stream: Stream): void {
  const handle = unwrap(tensor, 'cuda.recordStream()');
  if (!tensor.isCuda) {
    throw new TorchBindError(
      `cuda.recordStream(): the tensor is on ${tensor.device}, which has no streams.`,
      'ERR_TORCHBIND_DEVICE',
    );
  }
  native().recordStream(handle, checkStream(stream, 'cuda.recordStream()').native);
}
