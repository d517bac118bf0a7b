// The Python whose PyTorch is checked against, and whose libtorch the addon is built for.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { inRoot, SetupError } from '../steps.mjs';

/** The minor versions that the C++ sources are known to compile for. */
const VERSIONS = [11, 12, 13, 14].map((minor) => `2.${minor}`);

const PROBE = `
import importlib.util, json, platform, sys
import torch
print(json.dumps({
    "command": sys.executable, "version": platform.python_version(), "torch": torch.__version__,
    "cuda": torch.version.cuda, "root": torch.__path__[0],
    "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    "transformers": importlib.util.find_spec("transformers") is not None,
}))`;

/** `{ command, version, torch, cuda, root, gpu, transformers, env }`, or an error that says what is missing. */
export function inspectPython(wanted) {
  const { command, env } = choose(wanted);
  const { status, stdout, stderr, error } = spawnSync(command, ['-c', PROBE], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 120_000,
  });
  if (status !== 0) {
    throw new SetupError(
      `${command} does not import torch (--python names another):\n${error?.message ?? stderr.trim()}`,
    );
  }
  const python = { ...JSON.parse(stdout.trim().split('\n').at(-1)), env };
  const minor = python.torch.split('.').slice(0, 2).join('.');
  if (!VERSIONS.includes(minor)) {
    throw new SetupError(
      `PyTorch ${python.torch} is not among those that this check builds for: ${VERSIONS.join(', ')}`,
    );
  }
  return python;
}

/** In a clone the Python of the tests, unless another is named. */
function choose(wanted) {
  if (wanted !== undefined) return { command: wanted, env: {} };
  if (isPacked()) return { command: 'python3', env: {} };
  return pythonOfTests() ?? { command: 'python3', env: {} };
}

function pythonOfTests() {
  const module = inRoot('dist/install/python-env.js');
  if (!existsSync(module)) return undefined;
  return process
    .getBuiltinModule('node:module')
    .createRequire(import.meta.url)(module)
    .pythonEnvironment();
}

/** Whether this is the unpacked archive, and not a clone. */
export function isPacked() {
  return existsSync(inRoot('packed.json'));
}
