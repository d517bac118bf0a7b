import { takes, TorchBindError } from '../errors';
import { native } from '../native/native';

/** Figures of the caching allocator of a device, in bytes. */
export interface DeviceMemory {
  /** In use by tensors. */
  allocated: number;
  /** Held by the allocator, in use or not. */
  reserved: number;
  /** The most that was ever in use since the start or `resetPeakMemoryStats()`. */
  peakAllocated: number;
  /** The most that was ever held since then. */
  peakReserved: number;
}

/** A device by name, or a CUDA device by index; without one, the current CUDA device. */
type DeviceArgument = string | number | undefined;

function hasCuda(): boolean {
  return native().accelerator() === 'cuda';
}

function deviceName(device: DeviceArgument): string {
  return typeof device === 'number' ? `cuda:${device}` : (device ?? 'cuda');
}

/** Figures of a device; zeros where there is no CUDA, as in PyTorch, unless a device was asked for by name. */
function memoryOf(device: DeviceArgument): DeviceMemory {
  if (device === undefined && !hasCuda()) return { allocated: 0, reserved: 0, peakAllocated: 0, peakReserved: 0 };
  return native().deviceMemory(deviceName(device));
}

function requireCuda(where: string): void {
  if (hasCuda()) return;
  throw new TorchBindError(
    `${where}: there is no CUDA device: this libtorch was built for the CPU, or no GPU answers. Ask cuda.isAvailable() first, or see what \`npx torchbind doctor\` says.`,
    'ERR_TORCHBIND_DEVICE',
  );
}

/**
 * CUDA devices (PyTorch's `torch.cuda`). Where there is none, what asks gets an answer (false, 0, zeros) and what acts on
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
  setDevice(device: string | number): void {
    requireCuda('cuda.setDevice()');
    native().setDevice(deviceName(device));
  },

  /** Waits until the device has done all its work. */
  synchronize(device?: string | number): void {
    requireCuda('cuda.synchronize()');
    native().synchronize(deviceName(device));
  },

  /** Gives memory that the allocator holds but does not use back to the system. */
  emptyCache(): void {
    native().emptyCache();
  },

  /** Bytes in use by tensors. */
  memoryAllocated(device?: string | number): number {
    return memoryOf(device).allocated;
  },

  /** The most bytes ever in use by tensors since the start or `resetPeakMemoryStats()`. */
  maxMemoryAllocated(device?: string | number): number {
    return memoryOf(device).peakAllocated;
  },

  /** Bytes that the allocator holds. */
  memoryReserved(device?: string | number): number {
    return memoryOf(device).reserved;
  },

  /** The most bytes that the allocator ever held since the start or `resetPeakMemoryStats()`. */
  maxMemoryReserved(device?: string | number): number {
    return memoryOf(device).peakReserved;
  },

  /** All four figures at once. */
  memoryStats(device?: string | number): DeviceMemory {
    return memoryOf(device);
  },

  /** Starts the peaks anew from what is in use now. */
  resetPeakMemoryStats(device?: string | number): void {
    requireCuda('cuda.resetPeakMemoryStats()');
    native().resetPeakMemory(deviceName(device));
  },

  /** Bytes that are free on the device, and all that it has. */
  memGetInfo(device?: string | number): { free: number; total: number } {
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
