/** The Python on PATH: which one it is, and the torch that it has. */
import path from 'node:path';

export interface Python {
  command: string;
  /** `3.11.7` */
  version: string;
  /** Tag of the wheels that it takes: `cp311`. */
  cpTag: string;
  /** Directory of its torch package, which is not imported. */
  torch: string | null;
}

const PROBE = `
import importlib.util, json, platform, sys
spec = importlib.util.find_spec("torch")
print(json.dumps({
    "command": sys.executable,
    "version": platform.python_version(),
    "cpTag": "cp%d%d" % sys.version_info[:2],
    "torch": None if spec is None else (spec.submodule_search_locations or [None])[0],
}))`;

/** `python3`, else `python`, on PATH; undefined where neither runs. */
export function findPython(env: NodeJS.ProcessEnv = process.env): Python | undefined {
  for (const command of process.platform === 'win32' ? ['python', 'python3'] : ['python3', 'python']) {
    // Asked for here, because it is not needed where libtorch is in the cache, and takes milliseconds to load.
    const { spawnSync } = process.getBuiltinModule('node:child_process');
    const result = spawnSync(command, ['-c', PROBE], { env, encoding: 'utf8', timeout: 30_000, windowsHide: true });
    if (result.status !== 0) continue;
    const python = JSON.parse(result.stdout) as Python;
    return { ...python, torch: python.torch === null ? null : path.resolve(python.torch) };
  }
  return undefined;
}
