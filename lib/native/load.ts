/** Loads the addon: finds it, finds libtorch, opens libtorch's libraries, and explains what stands in the way. */
import { existsSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { discoverLibtorch, type Discovery, type FoundLibtorch } from '../install/discover';
import { libraryPath, PINNED_VERSION } from '../install/libtorch';
import { hasNvidiaDriver, isMusl } from '../install/platform';
import type { Binding } from './binding';
import { type KernelChoice, useKernels } from './cpu-kernels';
import { loader, loadFailure, type Loader, packageRoot, resolveAddon } from './loader';
import { noteCopy, refuseSecondCopy } from './only-copy';

export interface LoadedAddon {
  binding: Binding;
  /** The loader; the core is next to it. */
  addon: string;
  libtorch: FoundLibtorch;
  /** Why this libtorch's CUDA part was not loaded: null where it was, or where it has none. */
  cudaProblem: string | null;
  kernels: KernelChoice;
}

/** Loads the addon against the libtorch that discovery finds. Nothing is ever downloaded here. */
export function loadAddon(env: NodeJS.ProcessEnv = process.env): LoadedAddon {
  if (isMusl()) {
    throw loadFailure([
      'This system uses musl libc. libtorch is built for glibc only: use a Debian, Ubuntu or Fedora image.',
    ]);
  }
  refuseSecondCopy(packageRoot);
  const addon = resolveAddon();
  const libtorch = requireLibtorch(discoverLibtorch(env));
  const libraries = loader();
  const kernels = useKernels(libraries, addon, env); // before libtorch: its symbols are found first
  try {
    libraries.preload([libraryPath(libtorch.root, 'c10'), libraryPath(libtorch.root, 'torch_cpu')]);
    const cudaProblem = preloadCuda(libraries, libtorch.root);
    const binding = openCore(addon);
    noteCopy(packageRoot);
    return { binding, addon, libtorch, cudaProblem, kernels };
  } catch (error) {
    throw loadFailure(
      [
        `libtorch ${libtorch.version} in ${libtorch.root} (found by ${libtorch.source}) was not loaded: ${reasonOf(error)}`,
        `The addon is ${addon}`,
      ],
      error,
    );
  }
}

function requireLibtorch(discovery: Discovery): FoundLibtorch {
  if (discovery.found !== undefined) return discovery.found;
  const looked = discovery.refused.map(({ source, path, reason }) => `${source}: ${path}: ${reason}`);
  throw loadFailure([
    `libtorch ${PINNED_VERSION} was not found`,
    ...looked,
    'Fetch it once for all projects: npx torchbind install (in a clone: npm run setup)',
    'Or name an existing one: TORCHBIND_LIBTORCH=/path/to/libtorch',
    'Or use the torch of the Python on PATH: TORCHBIND_USE_PYTORCH=1',
  ]);
}

function preloadCuda(libraries: Loader, root: string): string | null {
  const library = libraryPath(root, 'torch_cuda');
  if (!existsSync(library)) return null;
  // Without a driver it would cost hundreds of megabytes and serve nothing.
  if (!hasNvidiaDriver()) return 'this machine has no NVIDIA driver';
  try {
    libraries.preload([library]);
    return null;
  } catch (error) {
    return reasonOf(error); // the CPU serves all the same; `torchbind doctor` tells
  }
}

function openCore(addon: string): Binding {
  const extension = { win32: 'dll', darwin: 'dylib' }[process.platform as string] ?? 'so';
  const core = { exports: {} };
  const flags = process.platform === 'win32' ? 0 : os.constants.dlopen.RTLD_NOW;
  process.dlopen(core, path.join(path.dirname(addon), `torchbind_core.${extension}`), flags);
  return core.exports as Binding;
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
