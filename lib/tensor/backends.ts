import { checkArgument, checkOptions, takes } from '../errors';
import type { BackendSwitch } from '../native/binding';
import type { CpuKernels } from '../native/cpu-kernels';
import { loadedAddon, native } from '../native/native';
import { hasCuda } from './cuda-device';

/** How float32 products may be computed; `high` and `medium` use TF32 on GPUs that have it, and `medium` bfloat16 on CPUs. */
export type Float32MatmulPrecision = 'highest' | 'high' | 'medium';

function set(name: BackendSwitch, on: boolean): void {
  checkArgument(typeof on === 'boolean', 'true or false', on, `backends.${name}`);
  native().setSwitch(name, on);
}

const matmul = {
  /** Products of float32 matrices may use TF32, which has 10 bits of mantissa. Default false. */
  get allowTf32(): boolean {
    return native().getSwitch('cuda.matmul.allowTf32');
  },
  set allowTf32(on: boolean) {
    set('cuda.matmul.allowTf32', on);
  },
};

const cudaBackend = {
  matmul,

  /** Whether the libtorch that is loaded has its CUDA part. */
  isBuilt(): boolean {
    return native().backendVersions().cuda !== null;
  },

  /** The CUDA version of the runtime in use, as 13000 for 13.0; null without. */
  version(): number | null {
    return native().backendVersions().cuda;
  },

  /** Whether attention may use the kernel named; all may at first. Which is used depends on the tensors. */
  flashSdpEnabled(): boolean {
    return native().getSwitch('cuda.flashSdp');
  },
  enableFlashSdp(on: boolean): void {
    set('cuda.flashSdp', on);
  },
  memEfficientSdpEnabled(): boolean {
    return native().getSwitch('cuda.memEfficientSdp');
  },
  enableMemEfficientSdp(on: boolean): void {
    set('cuda.memEfficientSdp', on);
  },
  mathSdpEnabled(): boolean {
    return native().getSwitch('cuda.mathSdp');
  },
  enableMathSdp(on: boolean): void {
    set('cuda.mathSdp', on);
  },
  cudnnSdpEnabled(): boolean {
    return native().getSwitch('cuda.cudnnSdp');
  },
  enableCudnnSdp(on: boolean): void {
    set('cuda.cudnnSdp', on);
  },
};

const cudnnBackend = {
  /** Whether there is a cuDNN and a device for it. */
  isAvailable(): boolean {
    return hasCuda() && native().backendVersions().cudnn !== null;
  },

  /** Version of cuDNN as a number, such as 92000 for 9.20; null without cuDNN. */
  version(): number | null {
    return native().backendVersions().cudnn;
  },

  /** Whether convolutions and RNNs may use cuDNN. Default true. */
  get enabled(): boolean {
    return native().getSwitch('cudnn.enabled');
  },
  set enabled(on: boolean) {
    set('cudnn.enabled', on);
  },

  /** Convolutions may use TF32. Default true. */
  get allowTf32(): boolean {
    return native().getSwitch('cudnn.allowTf32');
  },
  set allowTf32(on: boolean) {
    set('cudnn.allowTf32', on);
  },

  /** Try kernels for each new size of convolution, and keep the fastest. Default false. */
  get benchmark(): boolean {
    return native().getSwitch('cudnn.benchmark');
  },
  set benchmark(on: boolean) {
    set('cudnn.benchmark', on);
  },

  /** Use kernels only that give the same bits each time. Default false. */
  get deterministic(): boolean {
    return native().getSwitch('cudnn.deterministic');
  },
  set deterministic(on: boolean) {
    set('cudnn.deterministic', on);
  },
};

const cpuBackend = {
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
};

/**
 * Which kernels and which precision libtorch may use (PyTorch's `torch.backends`), for the whole process. The switches can be
 * set without a GPU, where they change nothing.
 */
export const backends = { cpu: cpuBackend, cuda: cudaBackend, cudnn: cudnnBackend };

/** How float32 products may be computed (PyTorch's `torch.get_float32_matmul_precision`). */
export const getFloat32MatmulPrecision = takes(0, function getFloat32MatmulPrecision(): Float32MatmulPrecision {
  return native().float32MatmulPrecision();
});

/**
 * Sets how float32 products may be computed, for the whole process (PyTorch's `torch.set_float32_matmul_precision`): `highest`
 * in float32, `high` and `medium` also in TF32.
 */
export const setFloat32MatmulPrecision = takes(
  1,
  function setFloat32MatmulPrecision(precision: Float32MatmulPrecision): void {
    native().setFloat32MatmulPrecision(precision);
  },
);

/**
 * Has operators give the same bits each time, for the whole process (PyTorch's `torch.use_deterministic_algorithms`). Those
 * that cannot are an error, or with `warnOnly` do as ever.
 */
export const useDeterministicAlgorithms = takes(
  2,
  function useDeterministicAlgorithms(on: boolean, options: { warnOnly?: boolean } = {}): void {
    checkOptions(options, ['warnOnly'], 'useDeterministicAlgorithms()');
    native().setDeterministicAlgorithms(on, options.warnOnly ?? false);
  },
);

/** Whether operators must give the same bits each time (PyTorch's `torch.are_deterministic_algorithms_enabled`). */
export const areDeterministicAlgorithmsEnabled = takes(0, function areDeterministicAlgorithmsEnabled(): boolean {
  return native().deterministicAlgorithms()[0];
});
