// Builds the addon of the unpacked archive against the PyTorch of a Python. In a clone it is built already.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import path from 'node:path';
import { inRoot, SetupError } from '../steps.mjs';

const GIGABYTE = 2 ** 30;
const QUARTER_HOUR = 900;

/** Resolves to the seconds that it took. A compiler's message is in the error. */
export async function buildAddon(python, { seconds = QUARTER_HOUR } = {}) {
  const began = performance.now();
  const build = inRoot('build/cmake');
  mkdirSync(build, { recursive: true });
  const signal = AbortSignal.timeout(Math.max(1, Math.round(1000 * seconds)));
  const tool = await has('ninja');
  const release = inRoot('build/Release');
  await step('cmake', [
    ...['-S', inRoot(), '-B', build, '-DCMAKE_BUILD_TYPE=Release', `-DCMAKE_LIBRARY_OUTPUT_DIRECTORY=${release}`],
    ...(tool ? ['-G', 'Ninja'] : []),
    `-DCMAKE_JS_INC=${inRoot('node_modules/node-api-headers/include')}`,
    `-DTORCHBIND_LIBTORCH_DIR=${python.root}`,
    // An optimisation level that compiles in the time there is: the kernels are libtorch's, compiled already.
    '-DCMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG',
  ], signal); // prettier-ignore
  const jobs = Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / GIGABYTE / 1.5)));
  await step('cmake', ['--build', build, '--parallel', String(jobs)], signal);
  return (performance.now() - began) / 1000;
}

/** Files of the built addon with their sizes: what the plug-in needs is not on every machine. */
export function builtFiles() {
  return ['torchbind.node', 'torchbind_core.so', 'torchbind_cuda.so']
    .map((name) => path.join(inRoot('build/Release'), name))
    .filter((file) => existsSync(file))
    .map((file) => `${path.basename(file)} (${(statSync(file).size / 2 ** 20).toFixed(1)} MiB)`);
}

async function has(command) {
  return (await start(command, ['--version'])).status === 0;
}

async function step(command, args, signal) {
  const { status, printed } = await start(command, args, signal);
  if (status === 0) return;
  throw new SetupError(
    `${command} ${args[0]} ${signal.aborted ? 'ran out of time' : `failed (${status})`}:\n${printed.slice(-6000)}`,
  );
}

function start(command, args, signal) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: inRoot(), stdio: ['ignore', 'pipe', 'pipe'], signal });
    let printed = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (printed += text));
    child.on('error', (error) => resolve({ status: error.message, printed: `${printed}${error.message}` }));
    child.on('close', (status) => resolve({ status, printed }));
  });
}
