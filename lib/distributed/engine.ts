import { existsSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import { TorchBindError } from '../errors';
import type { Binding } from '../native/binding';
import { loadedAddon, pluginPath } from '../native/native';
import { requireCuda } from '../tensor/cuda-device';

/** Whether the library with c10d's part of the addon is open. The first request for a process group opens it. */
let opened = false;

/** @throws ERR_TORCHBIND_THREAD in a worker thread, ERR_TORCHBIND_UNSUPPORTED where this libtorch has no c10d or no gloo */
export function engine(where: string): Binding {
  if (!isMainThread) {
    throw new TorchBindError(
      `${where}: a process is one rank, so its process groups belong to the main thread. Call this there, and post results to the worker.`,
      'ERR_TORCHBIND_THREAD',
    );
  }
  const { binding, libtorch } = loadedAddon();
  if (opened) return binding;
  const library = pluginPath('distributed');
  if (!existsSync(library)) {
    throw new TorchBindError(
      `${where}: this build of torchbind has no process groups: ${library} is missing. They need a libtorch with c10d and gloo when the addon is compiled, on Linux or macOS.`,
      'ERR_TORCHBIND_UNSUPPORTED',
    );
  }
  try {
    binding.openDistributed(library);
  } catch (error) {
    throw new TorchBindError(
      `${where}: the libtorch in ${libtorch.root} was built without c10d or without gloo, which process groups need: ${(error as Error).message}. ` +
        'Use the one that `npx torchbind install` fetches.',
      'ERR_TORCHBIND_UNSUPPORTED',
      { cause: error },
    );
  }
  opened = true;
  return binding;
}

/** Path of NCCL's part of the addon. @throws ERR_TORCHBIND_DEVICE without a GPU, ERR_TORCHBIND_UNSUPPORTED if it was not built */
export function ncclLibrary(where: string): string {
  requireCuda(where);
  const library = pluginPath('nccl');
  if (existsSync(library)) return library;
  throw new TorchBindError(
    `${where}: this torchbind was built without CUDA's headers or nccl.h, which the backend 'nccl' needs: ${library} is missing. In a clone, set ` +
      "CUDA_HOME to a CUDA toolkit with NCCL and run npm run setup. The backend 'gloo' needs neither.",
    'ERR_TORCHBIND_UNSUPPORTED',
  );
}
