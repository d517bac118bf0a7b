/** Which kernels compute on the CPU: libtorch's own choice, or the faster ones for this processor. */
import path from 'node:path';
import { TorchBindError } from '../errors';
import type { Loader, Processor } from './loader';

/** `stock` computes what Python computes on the same machine, bit for bit; `auto` is faster on some processors. */
export type CpuKernels = 'auto' | 'stock';

/** What `TORCHBIND_CPU_KERNELS` has come to in this process. It is decided before libtorch is loaded, and stays. */
export interface KernelChoice {
  setting: CpuKernels;
  processor: Processor;
  /** Whether MKL was told to go by what the processor can do, not by its vendor. Products then differ from Python's in bits. */
  fastMkl: boolean;
  /** Why that failed where it was wanted, else null. */
  problem: string | null;
  /** Maximum number of rows of a Linear that `torchbind::linear` (native/linear.cc) computes during generation; 0 for none. */
  ownRows: number;
}

/**
 * Decides on the kernels of the process, by the environment and CPUID alone: two runs on one machine compute the same. In a process
 * that has decided already, as a worker thread's has, the decision stays.
 *
 * @throws ERR_TORCHBIND_LOAD for a setting that there is not
 */
export function useKernels(loader: Loader, addon: string, env: NodeJS.ProcessEnv): KernelChoice {
  const wanted = readSetting(env.TORCHBIND_CPU_KERNELS);
  const processor = loader.processor();
  const library = wanted === 'auto' && slowInMkl(processor) ? path.join(path.dirname(addon), 'torchbind_mkl.so') : '';
  const { setting, fastMkl, problem } = loader.chooseKernels(wanted, library);
  const ownRows = setting === 'auto' && isFasterThanLibtorch(processor) ? 16 : 0;
  return { setting: setting as CpuKernels, processor, fastMkl, problem, ownRows };
}

function readSetting(value: string | undefined): CpuKernels {
  if (value === undefined || value === '') return 'auto';
  if (value === 'auto' || value === 'stock') return value;
  throw new TorchBindError(
    `TORCHBIND_CPU_KERNELS must be 'auto' or 'stock', got '${value}'. 'stock' gives Python's bits, 'auto' (the default) is faster on some processors.`,
    'ERR_TORCHBIND_LOAD',
  );
}

/** MKL has kernels for AMD's processors with AVX2, but none with AVX-512: there it takes its generic ones. */
function slowInMkl({ vendor, avx512 }: Processor): boolean {
  return vendor === 'AuthenticAMD' && avx512;
}

/** Measured with `bench/decoding.mjs`: on AMD our own kernel reads weights faster than MKL and oneDNN. On Intel MKL is as fast. */
function isFasterThanLibtorch({ vendor, avx2 }: Processor): boolean {
  return vendor === 'AuthenticAMD' && avx2;
}
