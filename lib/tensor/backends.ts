import { takes } from '../errors';
import type { CpuKernels } from '../native/cpu-kernels';
import { loadedAddon, native } from '../native/native';

/** Facts about what libtorch computes with (PyTorch's `torch.backends`). */
export const backends = {
  cpu: {
    /** The vector instructions of libtorch's own kernels: `DEFAULT`, `AVX2`, `AVX512`, ... (`torch.backends.cpu.get_cpu_capability`). */
    getCpuCapability: takes(0, function getCpuCapability(): string {
      return native().versions().cpuCapability;
    }),

    /**
     * The setting of `TORCHBIND_CPU_KERNELS` in this process. `stock`: on the same machine, results are Python's bit for bit. `auto`,
     * the default: faster on AMD processors, where results differ from Python's by rounding. It cannot change within a process.
     */
    getKernels: takes(0, function getKernels(): CpuKernels {
      return loadedAddon().kernels.setting;
    }),
  },
};
