import { native } from '../native/native';

/** CUDA devices (PyTorch's `torch.cuda`). Every function works, and says so, where there is none. */
export const cuda = {
  /** Whether a CUDA device can be used: the loaded libtorch was built for CUDA and a GPU answers. */
  isAvailable(): boolean {
    return native().accelerator() === 'cuda';
  },

  /** Number of CUDA devices; 0 without any. */
  deviceCount(): number {
    return native().accelerator() === 'cuda' ? native().deviceCount() : 0;
  },

  /** Waits until the device has done all its work. */
  synchronize(device = 'cuda'): void {
    native().synchronize(device);
  },

  /** Gives memory that the allocator holds but does not use back to the system. */
  emptyCache(): void {
    native().emptyCache();
  },

  /** Bytes of the caching allocator: in use, reserved, and the most ever in use. */
  memoryStats(device = 'cuda'): { allocated: number; reserved: number; peakAllocated: number } {
    return native().deviceMemory(device);
  },
};

/** Threads that operators use on the CPU (PyTorch's `torch.get_num_threads`). */
export function getNumThreads(): number {
  return native().getNumThreads();
}

/** Sets the threads that operators use on the CPU, for the whole process (PyTorch's `torch.set_num_threads`). */
export function setNumThreads(count: number): void {
  native().setNumThreads(count);
}
