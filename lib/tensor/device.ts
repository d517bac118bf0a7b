import { takes } from '../errors';
import { native } from '../native/native';
import { refuseAsyncFunction, refuseAsyncResult } from './autograd/synchronous';
import { deviceName, hasCuda, requireCuda } from './cuda-device';
import { CUDAGraph, isCurrentStreamCapturing } from './cuda-graph';
import { type DeviceMemory, memoryOf, memorySummary } from './cuda-memory';
import {
  getDeviceCapability,
  getDeviceName,
  getDeviceProperties,
  isBf16Supported,
  isTf32Supported,
} from './cuda-properties';
import { currentStream, defaultStream, Event, recordStream, Stream, withStream } from './cuda-streams';
import type { DeviceName } from './schema-types';

/**
 * CUDA devices (PyTorch's `torch.cuda`). Without a GPU, queries return an answer (false, 0, zeros), and functions that act on
 * a device is an error, `ERR_TORCHBIND_DEVICE`.
 */
export const cuda = {
  /** Whether a CUDA device can be used: the loaded libtorch was built for CUDA and a GPU answers. */
  isAvailable(): boolean {
    return hasCuda();
  },

  /** Number of CUDA devices; 0 without any. */
  deviceCount(): number {
    return hasCuda() ? native().deviceCount() : 0;
  },

  /** Index of the device that `'cuda'` means, on this thread. */
  currentDevice(): number {
    requireCuda('cuda.currentDevice()');
    return native().currentDevice();
  },

  /** Makes another device the one that `'cuda'` means, on this thread. */
  setDevice(device: DeviceName | number): void {
    requireCuda('cuda.setDevice()');
    native().setDevice(deviceName(device));
  },

  /**
   * Runs a synchronous function with another device as the one that `'cuda'` means (PyTorch's `with torch.cuda.device(...)`).
   *
   * @throws {TorchBindError} `ERR_TORCHBIND_ASYNC_MODE` when `fn` is async
   */
  device<T>(device: DeviceName | number, fn: () => T): T {
    refuseAsyncFunction(fn, 'cuda.device');
    requireCuda('cuda.device()');
    const before = native().currentDevice();
    native().setDevice(deviceName(device, 'cuda.device()'));
    try {
      const result = fn();
      refuseAsyncResult(result, 'cuda.device');
      return result;
    } finally {
      native().setDevice(deviceName(before));
    }
  },

  getDeviceProperties,
  getDeviceName,
  getDeviceCapability,
  isBf16Supported,
  isTf32Supported,

  Stream,
  Event,
  currentStream,
  defaultStream,
  stream: withStream,
  recordStream,

  CUDAGraph,
  isCurrentStreamCapturing,

  /** Waits until the device has done all its work. */
  synchronize(device?: DeviceName | number): void {
    requireCuda('cuda.synchronize()');
    native().synchronize(deviceName(device));
  },

  /** Gives memory that the allocator holds but does not use back to the system. */
  emptyCache(): void {
    native().emptyCache();
  },

  /** Bytes in use by tensors. */
  memoryAllocated(device?: DeviceName | number): number {
    return memoryOf(device).allocated;
  },

  /** The most bytes ever in use by tensors since the start or `resetPeakMemoryStats()`. */
  maxMemoryAllocated(device?: DeviceName | number): number {
    return memoryOf(device).peakAllocated;
  },

  /** Bytes that the allocator holds. */
  memoryReserved(device?: DeviceName | number): number {
    return memoryOf(device).reserved;
  },

  /** The most bytes that the allocator ever held since the start or `resetPeakMemoryStats()`. */
  maxMemoryReserved(device?: DeviceName | number): number {
    return memoryOf(device).peakReserved;
  },

  /** All four figures. */
  memoryStats(device?: DeviceName | number): DeviceMemory {
    return memoryOf(device);
  },

  memorySummary,

  /** Resets the peaks to the present values. */
  resetPeakMemoryStats(device?: DeviceName | number): void {
    requireCuda('cuda.resetPeakMemoryStats()');
    native().resetPeakMemory(deviceName(device));
  },

  /** Bytes that are free on the device, and all that it has. */
  memGetInfo(device?: DeviceName | number): { free: number; total: number } {
    requireCuda('cuda.memGetInfo()');
    return native().freeMemory(deviceName(device));
  },
};

/** Threads that operators use on the CPU (PyTorch's `torch.get_num_threads`). */
export const getNumThreads = takes(0, function getNumThreads(): number {
  return native().getNumThreads();
});

/** Sets the threads that operators use on the CPU, for the whole process (PyTorch's `torch.set_num_threads`). */
export const setNumThreads = takes(1, function setNumThreads(count: number): void {
  native().setNumThreads(count);
});
