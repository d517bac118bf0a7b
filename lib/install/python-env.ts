/** A Python that imports the pinned PyTorch: what torchbind's own tests and benchmarks compare with. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { TorchBindError } from '../errors';
import { cacheDirectory, cacheEntries, libtorchCache, readStamp, stampProblem, writeStamp } from './cache';
import { discoverLibtorch } from './discover';
import { installLibtorch } from './install';
import { PINNED_VERSION } from './libtorch';
import { withLock } from './lock';
import { pipInstall } from './pip';
import { runProgram } from './process';
import { findPython, type Python } from './python';
import type { Reporter } from './report';
import { requirementsOf } from './wheel-metadata';

/** How to start that Python. */
export interface PythonEnvironment {
  command: string;
  env: Record<string, string>;
}

const NUMPY = ['numpy==2.4.6; python_version >= "3.11"', 'numpy==2.2.6; python_version < "3.11"'];

/** Reference implementations that the tests compare with, besides PyTorch. */
const ORACLES = [
  ...NUMPY,
  'safetensors==0.8.0',
  'tokenizers==0.23.3',
  'transformers==5.23.0',
  'tensorboard==2.21.0',
  'expecttest==0.3.0',
  'psutil==7.2.2',
];
/** These require torch, which is installed already. */
const ORACLES_ON_TORCH = ['accelerate==1.15.0', 'peft==0.21.2'];

/** The environment that was set up for this machine's Python and libtorch, or undefined where that was not done. */
export function pythonEnvironment(env: NodeJS.ProcessEnv = process.env): PythonEnvironment | undefined {
  try {
    const record = JSON.parse(readFileSync(recordFile(env), 'utf8')) as PythonEnvironment;
    const pythonPath = record.env.PYTHONPATH;
    const places = pythonPath === undefined ? [] : pythonPath.split(path.delimiter);
    return [record.command, ...places].every((place) => existsSync(place)) ? record : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Sets the environment up where it is not there yet. A Python that imports the pinned torch and numpy already serves;
 * else the unpacked wheel in the cache, which also serves as libtorch, gets what torch imports put next to it.
 */
export async function ensurePythonEnvironment(
  reporter: Reporter,
  env: NodeJS.ProcessEnv = process.env,
): Promise<PythonEnvironment> {
  const ready = pythonEnvironment(env);
  if (ready !== undefined) return ready;
  const python = requirePython(env);
  reporter.step('looking for a Python with PyTorch');
  const withTorch =
    (await firstWorking(existingEnvironments(python, env))) ?? (await makeEnvironment(python, reporter, env));
  const found = await addOracles(withTorch, python, reporter, env);
  mkdirSync(path.dirname(recordFile(env)), { recursive: true });
  writeFileSync(recordFile(env), `${JSON.stringify(found, null, 2)}\n`);
  return found;
}

function existingEnvironments(python: Python, env: NodeJS.ProcessEnv): PythonEnvironment[] {
  const packagesAt = (root: string): PythonEnvironment => ({
    command: python.command,
    env: { PYTHONPATH: path.dirname(root), PYTHONNOUSERSITE: '1' },
  });
  const libtorch = discoverLibtorch(env).found;
  const environments: PythonEnvironment[] = [];
  if (libtorch !== undefined && existsSync(path.join(libtorch.root, '__init__.py')))
    environments.push(packagesAt(libtorch.root));
  if (python.torch !== null) environments.push({ command: python.command, env: {} });
  return environments;
}

async function firstWorking(environments: PythonEnvironment[]): Promise<PythonEnvironment | undefined> {
  for (const environment of environments) if ((await importProblem(environment)) === undefined) return environment;
  return undefined;
}

async function makeEnvironment(python: Python, reporter: Reporter, env: NodeJS.ProcessEnv): Promise<PythonEnvironment> {
  const isForThisPython = (entry: string): boolean =>
    entry.endsWith(`-${python.cpTag}`) && stampProblem(entry) === undefined;
  const entry =
    cacheEntries(env).find(isForThisPython) ?? (await installLibtorch({ cpTag: python.cpTag, env, reporter }));
  // One command: pip replaces a top-level directory such as nvidia/ by what that command alone installs.
  const requirements = [...requirementsOf(entry).filter((line) => !line.startsWith('triton')), ...NUMPY];
  reporter.step('adding what PyTorch imports (the tests compare with the real one)');
  await withLock(path.join(libtorchCache(env), '.lock'), async () => {
    await pipInstall(python, requirements, entry);
    writeStamp(entry, readStamp(entry)!);
  });
  const environment = { command: python.command, env: { PYTHONPATH: entry, PYTHONNOUSERSITE: '1' } };
  const problem = await importProblem(environment);
  if (problem === undefined) return environment;
  throw new TorchBindError(`Python cannot import PyTorch from ${entry}: ${problem}`, 'ERR_TORCHBIND_PYTHON');
}

/** The environment with the packages that the tests compare with, which lie in a directory of their own. */
async function addOracles(
  environment: PythonEnvironment,
  python: Python,
  reporter: Reporter,
  env: NodeJS.ProcessEnv,
): Promise<PythonEnvironment> {
  const key = keyOf([python.cpTag, ORACLES, ORACLES_ON_TORCH]);
  const directory = path.join(cacheDirectory(env), `python-packages-${key}`);
  await withLock(path.join(cacheDirectory(env), '.python-packages.lock'), async () => {
    if (existsSync(directory)) return;
    reporter.step('adding the Python packages that the tests compare with (a minute)');
    const unfinished = `${directory}.partial`;
    rmSync(unfinished, { recursive: true, force: true });
    await pipInstall(python, ORACLES, unfinished);
    await pipInstall(python, ORACLES_ON_TORCH, unfinished, { withDependencies: false });
    renameSync(unfinished, directory);
  });
  const pythonPath = [environment.env.PYTHONPATH, directory].filter((part) => part !== undefined);
  return { command: environment.command, env: { ...environment.env, PYTHONPATH: pythonPath.join(path.delimiter) } };
}

/** Why this Python cannot import the pinned torch and numpy, or undefined where it can. */
async function importProblem({ command, env }: PythonEnvironment): Promise<string | undefined> {
  const minor = PINNED_VERSION.split('.').slice(0, 2).join('.');
  const code = `import numpy, torch; assert torch.__version__.startswith("${minor}."), torch.__version__`;
  try {
    await runProgram(command, ['-c', code], { env: { ...process.env, ...env } });
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

function requirePython(env: NodeJS.ProcessEnv): Python {
  const python = findPython(env);
  if (python !== undefined) return python;
  throw new TorchBindError(
    "Found no Python 3 on PATH: 'apt-get install python3 python3-pip' on Debian and Ubuntu.",
    'ERR_TORCHBIND_MISSING_TOOL',
  );
}

/** One record for each libtorch that the environment variables may name. */
function recordFile(env: NodeJS.ProcessEnv): string {
  const names = ['TORCHBIND_LIBTORCH', 'LIBTORCH', 'TORCHBIND_USE_PYTORCH'] as const;
  const key = keyOf([PINNED_VERSION, ORACLES, ORACLES_ON_TORCH, names.map((name) => env[name])]);
  return path.join(cacheDirectory(env), `python-env-${key}.json`);
}

function keyOf(parts: unknown): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16);
}
