/** Loads the addon: finds it, finds libtorch, opens libtorch's libraries, and explains what stands in the way. */
import { existsSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import nodeGypBuild from 'node-gyp-build';
import { TorchBindError } from '../errors';
import { discoverLibtorch, type Discovery, type FoundLibtorch } from '../install/discover';
import { libraryPath, PINNED_VERSION } from '../install/libtorch';
import { hasNvidiaDriver, isMusl, platformName } from '../install/platform';
import type { Binding } from './binding';

export interface LoadedAddon {
  binding: Binding;
  /** The loader; the core lies beside it. */
  addon: string;
  libtorch: FoundLibtorch;
  /** Why this libtorch's CUDA part was not loaded: null where it was, or where it has none. */
  cudaProblem: string | null;
}

interface Loader {
  /** Opens shared libraries for the rest of the process's life; throws the linker's reason. */
  preload(paths: string[]): void;
}

// Both lib/native and dist/native lie two levels below the package.
const packageRoot = path.resolve(__dirname, '../..');

/** Loads the addon against the libtorch that discovery finds. Nothing is ever downloaded here. */
export function loadAddon(env: NodeJS.ProcessEnv = process.env): LoadedAddon {
  if (isMusl()) {
    throw failure([
      'This system uses musl libc. libtorch is built for glibc only: use a Debian, Ubuntu or Fedora image.',
    ]);
  }
  const addon = resolveAddon();
  const libtorch = requireLibtorch(discoverLibtorch(env));
  try {
    const loader = nodeGypBuild(packageRoot) as Loader;
    loader.preload([libraryPath(libtorch.root, 'c10'), libraryPath(libtorch.root, 'torch_cpu')]);
    const cudaProblem = preloadCuda(loader, libtorch.root);
    return { binding: openCore(addon), addon, libtorch, cudaProblem };
  } catch (error) {
    throw failure(
      [
        `libtorch ${libtorch.version} in ${libtorch.root} (found by ${libtorch.source}) was not loaded: ${reasonOf(error)}`,
        `The addon is ${addon}`,
      ],
      error,
    );
  }
}

function resolveAddon(): string {
  try {
    return nodeGypBuild.resolve(packageRoot);
  } catch (error) {
    throw failure(
      [
        `No compiled addon for ${process.platform}-${process.arch} in ${path.join(packageRoot, 'prebuilds')} or in ` +
          `${path.join(packageRoot, 'build/Release')}. In a clone, compile it: npm run setup`,
      ],
      error,
    );
  }
}

function requireLibtorch(discovery: Discovery): FoundLibtorch {
  if (discovery.found !== undefined) return discovery.found;
  const looked = discovery.refused.map(({ source, path, reason }) => `${source}: ${path}: ${reason}`);
  throw failure([
    `libtorch ${PINNED_VERSION} was not found`,
    ...looked,
    'Fetch it once for all projects: npx torchbind install (in a clone: npm run setup)',
    'Or name one that is there: TORCHBIND_LIBTORCH=/path/to/libtorch',
    'Or use the torch of the Python on PATH: TORCHBIND_USE_PYTORCH=1',
  ]);
}

function preloadCuda(loader: Loader, root: string): string | null {
  const library = libraryPath(root, 'torch_cuda');
  if (!existsSync(library)) return null;
  // Without a driver it would cost hundreds of megabytes and serve nothing.
  if (!hasNvidiaDriver()) return 'there is no NVIDIA driver on this machine';
  try {
    loader.preload([library]);
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

function failure(findings: string[], cause?: unknown): TorchBindError {
  const lines = [...findings, `Node ${process.versions.node}, ${platformName()}. Details: npx torchbind doctor`];
  const message = `torchbind could not be loaded:\n${lines.map((line) => `  - ${line}`).join('\n')}`;
  return new TorchBindError(message, 'ERR_TORCHBIND_LOAD', cause === undefined ? undefined : { cause });
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
