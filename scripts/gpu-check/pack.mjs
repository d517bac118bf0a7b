// Makes the archive: Node, the built JavaScript with its dependencies, the C++ sources with their headers, the check.
import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { compileTypeScript } from '../setup.mjs';
import { inRoot, say, SetupError } from '../steps.mjs';

const LIMIT = 60 * 2 ** 20;
/** What is compiled on the machine includes these. */
const HEADER_PACKAGES = ['node-addon-api', 'node-api-headers'];
/** Left out of packages: they only take room. */
const NOT_NEEDED = /\.(map|d\.ts|d\.mts|d\.cts|md|lib|def)$/;

export async function pack() {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new SetupError('The archive carries the Node that makes it: make it on Linux x64, where it is to run.');
  }
  await compileTypeScript();
  const out = inRoot('build/gpu-check');
  const staged = path.join(out, 'payload');
  rmSync(out, { recursive: true, force: true });
  mkdirSync(path.join(staged, 'bin'), { recursive: true });
  const node = path.join(staged, 'bin/node');
  copyFileSync(process.execPath, node);
  run('strip', [node]);
  for (const name of ['dist', 'native', 'scripts', 'examples/pytorch', 'CMakeLists.txt', 'package.json', 'LICENSE'])
    stage(name, staged);
  for (const name of packages()) stage(name, staged);
  writeFileSync(path.join(staged, 'packed.json'), `${JSON.stringify(facts())}\n`);
  const top = path.join(out, 'torchbind-gpu-check');
  mkdirSync(top);
  run('tar', ['-czf', path.join(top, 'payload.tar.gz'), '-C', staged, '.'], { GZIP: '-9' });
  copyFileSync(inRoot('scripts/gpu-check/run'), path.join(top, 'run'));
  const archive = `${top}.tar`;
  run('tar', ['-cf', archive, '-C', out, path.basename(top)]);
  rmSync(staged, { recursive: true });
  rmSync(top, { recursive: true });
  const { size } = statSync(archive);
  const megabytes = `${(size / 2 ** 20).toFixed(1)} MiB`;
  if (size > LIMIT) throw new SetupError(`${archive} is ${megabytes}, more than the 60 MiB that it may be`);
  say(
    `wrote ${path.relative(process.cwd(), archive)}, ${megabytes}. On the machine: tar xf, then torchbind-gpu-check/run`,
  );
  return 0;
}

/** What programs need, as package-lock.json has it, and the headers. */
function packages() {
  const { packages: locked } = JSON.parse(readFileSync(inRoot('package-lock.json'), 'utf8'));
  const needed = Object.keys(locked).filter((name) => name !== '' && !locked[name].dev && !locked[name].optional);
  return [...needed, ...HEADER_PACKAGES.map((name) => `node_modules/${name}`)];
}

function stage(name, staged) {
  const filter = (source) => !NOT_NEEDED.test(source) || statSync(source).isDirectory();
  cpSync(inRoot(name), path.join(staged, name), { recursive: true, filter });
}

function facts() {
  const commit = spawnSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: inRoot(), encoding: 'utf8' });
  return { commit: commit.status === 0 ? commit.stdout.trim() : null, sources: readdirSync(inRoot('native')).length };
}

function run(command, args, env = {}) {
  const { status, error, stderr } = spawnSync(command, args, { encoding: 'utf8', env: { ...process.env, ...env } });
  if (status !== 0) throw new SetupError(`${command} failed: ${error?.message ?? stderr}`);
}
