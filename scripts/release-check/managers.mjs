// The package in the hands of a package manager: installed into an empty project, used without libtorch and with it, updated, removed.
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { SetupError } from '../steps.mjs';
import { attempt, expectText, libtorchHere, makeProject, newUser, run } from './shell.mjs';
import { OLDER_VERSION, ONLY_IN_OLDER } from './tarballs.mjs';

/** Versions are pinned: a release is checked with what was tried. */
export const MANAGERS = {
  npm: { run: ['npm'], add: ['install'], dev: '--save-dev', remove: ['uninstall'] },
  pnpm: { run: ['npx', '--yes', 'pnpm@10.18.0'], add: ['add'], dev: '-D', remove: ['remove'] },
  yarn: { run: ['npx', '--yes', 'yarn@1.22.22'], add: ['add'], dev: '-D', remove: ['remove'] },
  // Without the name bun takes another file of the same package for a loop of dependencies.
  bun: { run: ['npx', '--yes', 'bun@1.2.23'], add: ['add'], dev: '-d', remove: ['remove'], prefix: 'torchbind@' },
};

const TYPESCRIPT = ['typescript@5.9.3', '@types/node@20.19.43'];

const ESM = `import { ones, tidy } from 'torchbind';
console.log('sum', tidy(() => ones([2, 3]).sum().item()));`;
const COMMONJS = `console.log('sum', require('torchbind').ones([2, 3]).sum().item());`;
const TYPED = `import { GPT, type GPTOptions, ones, type Tensor } from 'torchbind';
const config: GPTOptions = { vocabSize: 8, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 4 };
const sum: Tensor = ones([2, 3]).sum();
const values: [GPT, number] = [new GPT(config), Number(sum.item())];
console.log('sum', values[1]);`;

/** What a project of each language has, and the programs that use the package once `build` has run. */
const LANGUAGES = {
  JavaScript: { files: { 'use.mjs': ESM, 'use.cjs': COMMONJS }, programs: ['use.mjs', 'use.cjs'] },
  TypeScript: {
    files: {
      'src/use.mts': TYPED,
      'src/use.cts': TYPED,
      'tsconfig.json': {
        compilerOptions: { strict: true, module: 'nodenext', target: 'es2022', rootDir: 'src', outDir: 'out' },
      },
    },
    programs: ['out/use.mjs', 'out/use.cjs'],
  },
};

/** Checks one package manager with projects of both languages, with and without install scripts. */
export function managerChecks(name) {
  return Object.keys(LANGUAGES).flatMap((language) =>
    [true, false].map((scripts) => ({
      what: `${language}, ${scripts ? 'with' : 'without'} scripts`,
      check: (packages, directory) => checkProject(name, language, scripts, packages, directory),
    })),
  );
}

async function checkProject(name, language, scripts, { tarball, older, version }, directory) {
  const { run: manager, add, dev, remove, prefix = '' } = MANAGERS[name];
  const { files, programs } = LANGUAGES[language];
  const manifest = { name: 'stranger', private: true, version: '1.0.0' };
  const project = makeProject(path.join(directory, `${name}-${language}-${scripts}`), {
    'package.json': manifest,
    ...files,
  });
  const here = (command, env) => run(command, { cwd: project, env });
  const install = (...packages) => here([...manager, ...add, ...(scripts ? [] : ['--ignore-scripts']), ...packages]);

  await install(prefix + older);
  expectVersion(project, OLDER_VERSION);
  if (language === 'TypeScript') {
    await install(dev, ...TYPESCRIPT);
    await here([process.execPath, 'node_modules/typescript/bin/tsc', '-p', '.']);
  }
  await withoutLibtorch(project, programs);
  const libtorch = { TORCHBIND_LIBTORCH: await libtorchHere() };
  const use = async () => {
    for (const file of programs) expectText(await here([process.execPath, file], libtorch), 'sum 6', file);
  };
  await use();

  await install(prefix + tarball);
  expectVersion(project, version);
  if (existsSync(installed(project, ONLY_IN_OLDER)))
    throw new SetupError(`the update left ${ONLY_IN_OLDER} of the older version`);
  if (language === 'TypeScript') await here([process.execPath, 'node_modules/typescript/bin/tsc', '-p', '.']);
  await use();

  await here([...manager, ...remove, 'torchbind']);
  if (existsSync(installed(project))) throw new SetupError('it is still there after it was removed');
  if (existsSync(path.join(project, 'node_modules/.bin/torchbind'))) throw new SetupError('its command is still there');
  if (readManifest(project).dependencies?.torchbind !== undefined) throw new SetupError('package.json still has it');
}

/** An error that names the command, and nothing fetched. */
async function withoutLibtorch(project, programs) {
  const home = path.join(project, 'home');
  const options = { cwd: project, env: newUser(home) };
  for (const file of programs) {
    const { failed, text } = await attempt([process.execPath, file], options);
    if (!failed) throw new SetupError(`${file} ran without libtorch`);
    expectText(text, 'npx torchbind install', file);
  }
  const bin = installed(project, 'dist/cli/main.js');
  expectText(await run([process.execPath, bin, 'install', '--dry-run'], options), 'would fetch', 'install --dry-run');
  if (existsSync(path.join(home, '.cache/torchbind')))
    throw new SetupError('something was fetched without being asked');
}

function expectVersion(project, version) {
  const found = JSON.parse(readFileSync(installed(project, 'package.json'), 'utf8')).version;
  if (found !== version) throw new SetupError(`expected torchbind ${version} to be installed, got ${found}`);
}

function installed(project, ...parts) {
  return path.join(project, 'node_modules/torchbind', ...parts);
}

function readManifest(project) {
  return JSON.parse(readFileSync(path.join(project, 'package.json'), 'utf8'));
}
