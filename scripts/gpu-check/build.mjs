// Builds the addon of the unpacked archive against the PyTorch of a Python. In a clone it is built already.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, realpathSync, statSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import path from 'node:path';
import { inRoot, SetupError } from '../steps.mjs';

const GIGABYTE = 2 ** 30;
const QUARTER_HOUR = 900;

/**
 * Resolves to `{ seconds, problem }`: the plug-ins for graphs, NCCL and process groups may fail to build, and all else is checked without them.
 *
 * @throws SetupError where the addon itself was not built, with what the compiler said
 */
export async function buildAddon(python, { seconds = QUARTER_HOUR } = {}) {
  const began = performance.now();
  const build = inRoot('build/cmake');
  mkdirSync(build, { recursive: true });
  const signal = AbortSignal.timeout(Math.max(1, Math.round(1000 * seconds)));
  const ninja = await has('ninja');
  const configured = await start('cmake', [
    ...['-S', inRoot(), '-B', build, ...(ninja ? ['-G', 'Ninja'] : [])],
    ...['-DCMAKE_BUILD_TYPE=Release', `-DCMAKE_LIBRARY_OUTPUT_DIRECTORY=${inRoot('build/Release')}`],
    // An optimisation level that compiles in the time there is: the kernels are libtorch's, compiled already.
    ...['-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG', `-DTORCHBIND_LIBTORCH_DIR=${python.root}`],
    `-DCMAKE_JS_INC=${inRoot('node_modules/node-api-headers/include')}`,
  ], signal); // prettier-ignore
  if (configured.status !== 0) throw failure('cmake', configured, signal);
  const jobs = Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / GIGABYTE / 1.5)));
  const keepGoing = ninja ? ['-k', '0'] : ['-k'];
  const built = await start('cmake', ['--build', build, '--parallel', String(jobs), '--', ...keepGoing], signal);
  const isThere = (name) => existsSync(path.join(inRoot('build/Release'), name));
  if (!isThere('torchbind.node') || !isThere('torchbind_core.so')) throw failure('the build', built, signal);
  const problem = built.status === 0 ? undefined : failure('one of the plug-ins', built, signal).message;
  return { seconds: (performance.now() - began) / 1000, problem };
}

/** Files of the built addon with their sizes: what the plug-in needs is not on every machine. */
export function builtFiles() {
  return [
    'torchbind.node',
    'torchbind_core.so',
    'torchbind_distributed.so',
    'torchbind_cuda.so',
    'torchbind_nccl.so',
    'torchbind_mkl.so',
  ]
    .map((name) => path.join(inRoot('build/Release'), name))
    .filter((file) => existsSync(file))
    .map((file) => `${path.basename(file)} (${(statSync(file).size / 2 ** 20).toFixed(1)} MiB)`);
}

async function has(command) {
  return (await start(command, ['--version'])).status === 0;
}

function failure(what, { status, printed }, signal) {
  const outcome = signal.aborted ? 'ran out of time' : `failed (${status})`;
  return new SetupError(`${what} ${outcome}:\n${printed.slice(-6000)}`);
}

/** Where nvcc is, its headers are. */
function withCudaHeaders(env) {
  const found = (env.PATH ?? '')
    .split(path.delimiter)
    .map((directory) => path.join(directory, 'nvcc'))
    .find(existsSync);
  if (found === undefined) return env;
  return { ...env, TORCHBIND_CUDA_INCLUDE: path.resolve(path.dirname(realpathSync(found)), '../include') };
}

function start(command, args, signal) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: inRoot(),
      stdio: ['ignore', 'pipe', 'pipe'],
      env: withCudaHeaders(process.env),
      signal,
    });
    let printed = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (printed += text));
    child.on('error', (error) => resolve({ status: error.message, printed: `${printed}${error.message}` }));
    child.on('close', (status) => resolve({ status, printed }));
  });
}
