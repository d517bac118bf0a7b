#!/usr/bin/env node
// npm run release:check: the package as a stranger meets it. Packs the tarball, checks its size, installs it with npm, pnpm, yarn and bun in
// empty JavaScript and TypeScript projects, with and without install scripts, uses it without libtorch and with it, updates it, removes
// it, and lints the container recipes of docs/deploy.md. It needs the network and some minutes, so it is not part of npm test.
//
//     npm run release:check [-- npm pnpm yarn bun containers]    only these
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { containerRecipes, lintRecipes } from './container-recipes.mjs';
import { inRoot, main, say, SetupError } from './steps.mjs';

const LARGEST = 2_000_000;
const TYPESCRIPT = 'typescript@5.9.3';

/** Versions are pinned: a release is checked with what was tried. */
const MANAGERS = {
  npm: { run: ['npm'], add: ['install'], remove: ['uninstall'], noScripts: ['--ignore-scripts'] },
  pnpm: { run: ['npx', '--yes', 'pnpm@10.18.0'], add: ['add'], remove: ['remove'], noScripts: ['--ignore-scripts'] },
  yarn: { run: ['npx', '--yes', 'yarn@1.22.22'], add: ['add'], remove: ['remove'], noScripts: ['--ignore-scripts'] },
  bun: { run: ['npx', '--yes', 'bun@1.2.23'], add: ['add'], remove: ['remove'], noScripts: ['--ignore-scripts'] },
};

const JAVASCRIPT = `import { ones, tidy } from 'torchbind';
console.log('sum', tidy(() => ones([2, 3]).sum().item()));`;
const COMMONJS = `console.log('sum', require('torchbind').ones([2, 3]).sum().item());`;
const TYPES = `import { GPT, type GPTOptions, ones, type Tensor } from 'torchbind';
const config: GPTOptions = { vocabSize: 8, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 4 };
const sum: Tensor = ones([2, 3]).sum();
export const values: [GPT, number] = [new GPT(config), Number(sum.item())];`;

main(async (args) => {
  const wanted = args.length === 0 ? [...Object.keys(MANAGERS), 'containers'] : args;
  const unknown = wanted.filter((name) => name !== 'containers' && !(name in MANAGERS));
  if (unknown.length > 0)
    throw new SetupError(`expected some of ${Object.keys(MANAGERS).join(', ')}, containers, got ${unknown.join(', ')}`);
  const directory = mkdtempSync(path.join(tmpdir(), 'torchbind-release-'));
  const failures = [];
  const attempt = async (what, body) => {
    try {
      await body();
      say(`${what}: right`);
    } catch (error) {
      failures.push(what);
      say(`${what}: ${error.message}`);
    }
  };
  try {
    const tarball = pack(directory);
    await attempt('size', () => checkSize(tarball));
    for (const name of Object.keys(MANAGERS).filter((manager) => wanted.includes(manager))) {
      for (const [scripts, flags] of [
        ['with scripts', []],
        ['without scripts', MANAGERS[name].noScripts],
      ])
        await attempt(`${name}, ${scripts}`, () => checkManager(directory, name, flags, tarball));
    }
    if (wanted.includes('containers'))
      await attempt('container recipes', () => lintRecipes(containerRecipes(), directory));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  if (failures.length === 0) return 0;
  throw new SetupError(`${failures.length} of the checks failed: ${failures.join('; ')}`);
});

function run([command, ...args], cwd, env = {}) {
  const result = spawnSync(command, args, {
    cwd,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    shell: process.platform === 'win32',
    timeout: 600_000,
  });
  const text = `${result.stdout ?? ''}${result.stderr ?? ''}`;
  if (result.status !== 0)
    throw new SetupError(`${[command, ...args].join(' ')}: ${result.error?.message ?? text.trim().slice(-4000)}`);
  return text;
}

/** What a command prints that must fail. */
function failing(command, cwd, env) {
  try {
    return { failed: false, text: run(command, cwd, env) };
  } catch (error) {
    return { failed: true, text: error.message };
  }
}

function pack(directory) {
  run(['npm', 'pack', '--silent', '--pack-destination', directory], inRoot());
  return path.join(
    directory,
    readdirSync(directory).find((name) => name.endsWith('.tgz')),
  );
}

function checkSize(tarball) {
  const { size } = statSync(tarball);
  say(`the package has ${size.toLocaleString('en')} bytes`);
  if (size >= LARGEST) throw new SetupError(`expected less than ${LARGEST.toLocaleString('en')} bytes`);
}

function checkManager(directory, name, flags, tarball) {
  const { run: manager, add, remove } = MANAGERS[name];
  const project = path.join(directory, `${name}${flags.length}`);
  mkdirSync(project);
  writeFileSync(
    path.join(project, 'package.json'),
    JSON.stringify({ name: 'stranger', private: true, version: '1.0.0' }),
  );
  const install = (...packages) => run([...manager, ...add, ...flags, ...packages], project);
  install(tarball);
  const files = { 'use.mjs': JAVASCRIPT, 'use.cjs': COMMONJS, 'types.mts': TYPES, 'types.cts': TYPES };
  for (const [file, source] of Object.entries(files)) writeFileSync(path.join(project, file), source);

  // Without libtorch: an error that names the command, and nothing fetched.
  const empty = { XDG_CACHE_HOME: path.join(project, 'cache'), TORCHBIND_LIBTORCH: undefined };
  const first = failing([process.execPath, 'use.mjs'], project, empty);
  if (!first.failed || !first.text.includes('npx torchbind install'))
    throw new SetupError(`expected an error that names 'npx torchbind install', got ${first.text.slice(-400)}`);
  const plan = run([...bin(project), 'install', '--dry-run'], project, empty);
  if (!plan.includes('would fetch')) throw new SetupError(`install --dry-run: ${plan}`);

  const libtorch = { TORCHBIND_LIBTORCH: libtorchHere() };
  for (const file of ['use.mjs', 'use.cjs']) {
    const text = run([process.execPath, file], project, libtorch);
    if (!text.includes('sum 6')) throw new SetupError(`${file} printed ${text}`);
  }
  install(...(name === 'npm' ? ['--save-dev'] : ['-D']), TYPESCRIPT, '@types/node@20.19.43');
  run(
    [
      process.execPath,
      path.join(project, 'node_modules/typescript/bin/tsc'),
      ...compilerOptions,
      'types.mts',
      'types.cts',
    ],
    project,
  );

  // An update, from the same file, keeps the project working; after the removal nothing is left.
  install(tarball);
  run([process.execPath, 'use.mjs'], project, libtorch);
  run([...manager, ...remove, 'torchbind'], project);
  if (existsSync(path.join(project, 'node_modules/torchbind')))
    throw new SetupError('it is still there after it was removed');
  const left = JSON.parse(readFileSync(path.join(project, 'package.json'), 'utf8'));
  if (left.dependencies?.torchbind !== undefined) throw new SetupError('package.json still has it');
}

const compilerOptions = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022'];

function bin(project) {
  return [process.execPath, path.join(project, 'node_modules/torchbind/dist/cli/main.js')];
}

function libtorchHere() {
  return run(
    [process.execPath, '-e', "console.log(require('./dist/native/native.js').libtorchDirectory())"],
    inRoot(),
  ).trim();
}
