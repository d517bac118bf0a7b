import { existsSync } from 'node:fs';
import os from 'node:os';
import { checkArgument, checkOptions, TorchBindError } from '../errors';
import { native, pluginPath } from '../native/native';
import { refuseAsyncFunction, refuseAsyncResult } from './autograd/synchronous';
import { requireCuda } from './cuda-device';
import { checkStream, currentStream, Stream, withStream } from './cuda-streams';

/** What `torchbind_cuda.so` exports. */
interface Plugin {
  newGraph(this: void): NativeGraph;
  captureBegin(this: void, graph: NativeGraph, poolOf: NativeGraph | undefined, mode: CaptureMode): void;
  captureEnd(this: void, graph: NativeGraph): void;
  replay(this: void, graph: NativeGraph): void;
  reset(this: void, graph: NativeGraph): void;
  isCapturing(this: void): boolean;
}

type NativeGraph = object & { readonly __graph: unique symbol };

/** What CUDA refuses while a graph is captured: of every thread, of the capturing thread, or nothing. */
export type CaptureMode = 'global' | 'thread_local' | 'relaxed';

/** Options of a CUDA graph capture. */
export interface CaptureOptions {
  /** The graph takes memory from the pool of this one. They must then be replayed one after the other. */
  poolOf?: CUDAGraph;
  /** The stream that it is captured on. Default: one of its own. */
  stream?: Stream;
  /** Default `thread_local`: Node has other threads, which may use the device meanwhile. */
  mode?: CaptureMode;
}

let plugin: Plugin | undefined;

/** @throws ERR_TORCHBIND_UNSUPPORTED where the plug-in was not built */
function graphs(where: string): Plugin {
  requireCuda(where);
  return (plugin ??= loadPlugin(where));
}

function loadPlugin(where: string): Plugin {
  const file = pluginPath('cuda');
  if (!existsSync(file)) {
    throw new TorchBindError(
      `${where}: this torchbind was built without CUDA's headers, which graphs need. In a clone, set CUDA_HOME to a CUDA toolkit and run npm run setup.`,
      'ERR_TORCHBIND_UNSUPPORTED',
    );
  }
  const module = { exports: {} };
  try {
    process.dlopen(module, file, os.constants.dlopen.RTLD_NOW);
  } catch (error) {
    throw new TorchBindError(`${where}: ${file} was not loaded: ${String(error)}`, 'ERR_TORCHBIND_LOAD', {
      cause: error,
    });
  }
  return module.exports as Plugin;
}

/** Errors of the plug-in as those of everything else. */
function run<T>(where: string, fn: () => T): T {
  try {
    return fn();
  } catch (error) {
    const isMisuse = error instanceof TypeError;
    throw new TorchBindError(
      `${where}: ${(error as Error).message}`,
      isMisuse ? 'ERR_TORCHBIND_INVALID_ARGUMENT' : 'ERR_TORCHBIND_TORCH',
      { cause: error },
    );
  }
}

/**
 * Work of a device that was recorded once and is replayed by a single call (PyTorch's `torch.cuda.CUDAGraph`): a step of
 * many small operators no longer spends its time calling them.
 *
 * A replay reads and writes the very memory that the capture did. Keep the tensors that go in and come out, and put new values
 * into them with `copy_`. Run the function a few times before it is captured, so that nothing is set up while it is. A
 * function that reads a value (`item()`) or makes a tensor from JavaScript numbers cannot be captured.
 */
export class CUDAGraph {
  readonly #native: NativeGraph;

  /** @throws ERR_TORCHBIND_DEVICE without a CUDA device; ERR_TORCHBIND_UNSUPPORTED where it was built without CUDA's headers */
  constructor() {
    const { newGraph } = graphs('cuda.CUDAGraph');
    this.#native = run('cuda.CUDAGraph', newGraph);
  }

  /**
   * Records what a synchronous function gives the device to do; nothing of it is done. Gives what the function gives: tensors
   * among it are filled by each replay, and are the caller's to keep.
   *
   * @throws ERR_TORCHBIND_TORCH where CUDA refuses an operation; the graph can then be captured anew
   */
  capture<T>(fn: () => T, options: CaptureOptions = {}): T {
    const where = 'CUDAGraph.capture()';
    refuseAsyncFunction(fn, where);
    checkOptions(options, ['poolOf', 'stream', 'mode'], where);
    const { poolOf, mode = 'thread_local', stream = new Stream() } = options;
    checkArgument(poolOf === undefined || poolOf instanceof CUDAGraph, 'a CUDAGraph', poolOf, where);
    checkStream(stream, where);
    const { captureBegin } = graphs(where);
    const pool = poolOf === undefined ? undefined : poolOf.#native;
    native().synchronize(stream.device);
    native().emptyCache();
    const before = currentStream(stream.device);
    stream.waitStream(before);
    const result = withStream(stream, () => {
      run(where, () => captureBegin(this.#native, pool, mode));
      return this.#finish(where, fn);
    });
    before.waitStream(stream);
    return result;
  }

  /** The capture ends whatever happens; the function's own error is the one to see. */
  #finish<T>(where: string, fn: () => T): T {
    const { captureEnd, reset } = graphs(where);
    let result: T;
    try {
      result = fn();
      refuseAsyncResult(result, where);
    } catch (error) {
      try {
        captureEnd(this.#native);
        reset(this.#native);
      } catch {
        // CUDA says once more that the capture is lost
      }
      throw error;
    }
    run(where, () => captureEnd(this.#native));
    return result;
  }

  /**
   * Replays the recorded work on the current stream. Returns immediately: wait with `cuda.synchronize()` or an event.
   */
  replay(): void {
    run('CUDAGraph.replay()', () => graphs('CUDAGraph.replay()').replay(this.#native));
  }

  /** Forgets what was recorded, and gives its memory back when no tensor in it is left. */
  reset(): void {
    run('CUDAGraph.reset()', () => graphs('CUDAGraph.reset()').reset(this.#native));
  }
}

/** Whether the current stream is being captured (PyTorch's `torch.cuda.is_current_stream_capturing`); false without CUDA. */
export function isCurrentStreamCapturing(): boolean {
  if (native().accelerator() !== 'cuda') return false;
  return run('cuda.isCurrentStreamCapturing()', graphs('cuda.isCurrentStreamCapturing()').isCapturing);
}
