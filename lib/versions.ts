import { readFileSync } from 'node:fs';
import path from 'node:path';
import { loadedAddon } from './native/native';

/** Which versions run together: for error reports. */
export interface Versions {
  torchbind: string;
  /** libtorch as it was found, with its variant where that is known: `2.13.0+cpu`. */
  torch: string;
  /** The libtorch that the addon was compiled for. */
  compiledFor: string;
  /** The newest Node-API version that this Node has. */
  nodeApi: number;
  node: string;
}

let own: string | undefined;

/** Versions of torchbind, libtorch, the addon and Node (PyTorch's `torch.__version__`). Loads libtorch. */
export function versions(): Versions {
  own ??= (JSON.parse(readFileSync(path.resolve(__dirname, '../package.json'), 'utf8')) as { version: string }).version;
  const { binding, libtorch } = loadedAddon();
  return {
    torchbind: own,
    torch: libtorch.version,
    compiledFor: binding.versions().torch,
    nodeApi: Number(process.versions.napi),
    node: process.versions.node,
  };
}
