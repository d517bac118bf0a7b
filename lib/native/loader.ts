/** torchbind.node, the small part of the addon that links no libtorch: it opens libraries and locks files. */
import path from 'node:path';
import nodeGypBuild from 'node-gyp-build';
import { TorchBindError } from '../errors';
import { platformName } from '../install/platform';

export interface Processor {
  /** `AuthenticAMD`, `GenuineIntel`, ... */
  vendor: string;
  /** AVX2 with FMA. */
  avx2: boolean;
  /** AVX-512 with its parts F, BW, DQ and VL. */
  avx512: boolean;
}

export interface Loader {
  /** Opens shared libraries until the process ends. Throws the linker's message. */
  preload(paths: string[]): void;
  /** The processor according to CPUID. The vendor is empty where it is unknown: on all systems except Linux on x86-64. */
  processor(): Processor;
  /** Chooses the kernels of this process; see `useKernels`. The first call decides, and later calls return its choice. */
  chooseKernels(setting: string, library: string): { setting: string; fastMkl: boolean; problem: string | null };
  /** Which of its kernels MKL computes with, as its own number: 7 are those for AVX-512. Null where libtorch is not loaded or has no MKL. */
  mklLevel(): number | null;
  /**
   * Locks a file, which is made if it is not there, and returns the lock's number; null if somebody else holds it. Throws the
   * system's reason with `errno`, which is positive, and `syscall`: `open` or `lock`.
   */
  lockFile(file: string): number | null;
  unlockFile(lock: number): void;
}

// Both lib/native and dist/native lie two levels below the package.
export const packageRoot = path.resolve(__dirname, '../..');

/** Path of torchbind.node; the core is next to it. @throws ERR_TORCHBIND_LOAD */
export function resolveAddon(): string {
  try {
    return nodeGypBuild.resolve(packageRoot);
  } catch (error) {
    throw loadFailure(
      [
        `No compiled addon for ${process.platform}-${process.arch} in ${path.join(packageRoot, 'prebuilds')} or in ` +
          `${path.join(packageRoot, 'build/Release')}. In a clone, compile it: npm run setup`,
      ],
      error,
    );
  }
}

/** @throws ERR_TORCHBIND_LOAD */
export function loader(): Loader {
  const addon = resolveAddon();
  try {
    return nodeGypBuild(packageRoot) as Loader;
  } catch (error) {
    throw loadFailure([`${addon} was not loaded: ${error instanceof Error ? error.message : String(error)}`], error);
  }
}

export function loadFailure(findings: string[], cause?: unknown): TorchBindError {
  const lines = [...findings, `Node ${process.versions.node}, ${platformName()}. Details: npx torchbind doctor`];
  const message = `torchbind could not be loaded:\n${lines.map((line) => `  - ${line}`).join('\n')}`;
  return new TorchBindError(message, 'ERR_TORCHBIND_LOAD', cause === undefined ? undefined : { cause });
}
