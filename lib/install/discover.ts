/** Finds libtorch on this machine. Nothing is fetched here and nothing is loaded. */
import { cacheEntries, cacheProblem, libtorchCache, stampProblem } from './cache';
import { libtorchRoot, libtorchVersion, versionRefusal } from './libtorch';
import { findPython } from './python';

export type LibtorchSource = 'TORCHBIND_LIBTORCH' | 'LIBTORCH' | 'TORCHBIND_USE_PYTORCH' | 'cache';

export interface FoundLibtorch {
  source: LibtorchSource;
  /** The directory that holds `include/` and `lib/`. */
  root: string;
  version: string;
}

/** A place that was looked at, and why it was not taken. */
export interface RefusedLibtorch {
  source: LibtorchSource;
  path: string;
  reason: string;
}

export interface Discovery {
  found?: FoundLibtorch;
  refused: RefusedLibtorch[];
}

/**
 * Looks in the directory that `TORCHBIND_LIBTORCH` or `LIBTORCH` names; with `TORCHBIND_USE_PYTORCH=1` at the torch of
 * the Python on PATH; then in the user's cache. What the environment names is meant: where it cannot be used, nothing
 * else is tried in its place.
 */
export function discoverLibtorch(env: NodeJS.ProcessEnv = process.env): Discovery {
  for (const source of ['TORCHBIND_LIBTORCH', 'LIBTORCH'] as const) {
    const directory = env[source];
    if (directory) return judge(source, directory, env);
  }
  if (env.TORCHBIND_USE_PYTORCH === '1') return discoverPythonTorch(env);
  return discoverCached(env);
}

function discoverPythonTorch(env: NodeJS.ProcessEnv): Discovery {
  const source = 'TORCHBIND_USE_PYTORCH';
  const python = findPython(env);
  if (python === undefined) return refuse(source, 'PATH', 'neither python3 nor python runs');
  if (python.torch === null) return refuse(source, python.command, `Python ${python.version} has no torch package`);
  return judge(source, python.torch, env);
}

function discoverCached(env: NodeJS.ProcessEnv): Discovery {
  const noCache = cacheProblem(env);
  if (noCache !== undefined) return refuse('cache', '~/.cache/torchbind', noCache);
  const refused: RefusedLibtorch[] = [];
  for (const entry of cacheEntries(env)) {
    const problem = stampProblem(entry);
    const judged = problem === undefined ? judge('cache', entry, env) : refuse('cache', entry, problem);
    if (judged.found !== undefined) return { found: judged.found, refused };
    refused.push(...judged.refused);
  }
  if (refused.length === 0) return refuse('cache', libtorchCache(env), 'nothing has been installed there yet');
  return { refused };
}

function judge(source: LibtorchSource, directory: string, env: NodeJS.ProcessEnv): Discovery {
  const root = libtorchRoot(directory);
  if (root === undefined) return refuse(source, directory, 'it has no lib directory with the torch_cpu library');
  const version = libtorchVersion(root);
  const refusal = versionRefusal(version, env);
  if (refusal !== undefined) return refuse(source, root, refusal);
  return { found: { source, root, version: version ?? 'unknown' }, refused: [] };
}

function refuse(source: LibtorchSource, path: string, reason: string): Discovery {
  return { refused: [{ source, path, reason }] };
}
