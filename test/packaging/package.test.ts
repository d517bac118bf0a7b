/** The package as npm packs it, unpacked into another project's node_modules. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { libtorchDirectory } from '../../lib/native/native';
import { repositoryRoot } from '../helpers/python';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const project = sharedTemporaryDirectory();
const installed = path.join(project, 'node_modules/torchbind');

function run(
  command: string,
  args: string[],
  cwd = project,
  env: NodeJS.ProcessEnv = { ...process.env, TORCHBIND_LIBTORCH: libtorchDirectory() },
): string {
  const result = spawnSync(command, args, { cwd, env, encoding: 'utf8', shell: process.platform === 'win32' });
  if (result.status !== 0) throw new Error(`${command} ${args.join(' ')}\n${result.stdout}\n${result.stderr}`);
  return result.stdout;
}

function runModule(name: string, source: string): string {
  writeFileSync(path.join(project, name), source);
  return run(process.execPath, [name]).trim();
}

beforeAll(() => {
  // With its scripts: prepack puts the compiled addon into prebuilds/.
  run('npm', ['pack', '--silent', '--pack-destination', project], repositoryRoot, process.env);
  const tarball = readdirSync(project).find((name) => name.endsWith('.tgz'))!;
  run('tar', ['-xzf', tarball]);
  mkdirSync(path.dirname(installed));
  cpSync(path.join(project, 'package'), installed, { recursive: true });
  const { dependencies } = JSON.parse(readFileSync(path.join(installed, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  for (const name of Object.keys(dependencies)) {
    mkdirSync(path.dirname(path.join(project, 'node_modules', name)), { recursive: true });
    symlinkSync(path.join(repositoryRoot, 'node_modules', name), path.join(project, 'node_modules', name), 'junction');
  }
}, 600_000);

/** The loader, the core, process groups, and what MKL asks on AMD processors; CUDA's graphs where its headers were found. */
const linux = ['torchbind.node', 'torchbind_core.so', 'torchbind_distributed.so'];
const extension = { darwin: 'dylib', win32: 'dll' }[process.platform as string] ?? 'so';
const binaries =
  process.platform === 'linux'
    ? [...linux, ...(process.arch === 'x64' ? ['torchbind_mkl.so'] : [])]
    : ['torchbind.node', `torchbind_core.${extension}`];
const optional = ['torchbind_cuda.so', 'torchbind_nccl.so', `torchbind_distributed.${extension}`];

test('the package carries what a program needs, and no sources, tests or maps', () => {
  const files = readdirSync(installed, { recursive: true, encoding: 'utf8' });
  for (const file of ['README.md', 'dist/index.js', 'dist/index.mjs', 'dist/index.d.ts', 'dist/index.d.mts']) {
    expect(files).toContain(path.normalize(file));
  }
  const prebuilds = path.join('prebuilds', `${process.platform}-${process.arch}`);
  const addon = files.filter((file) => path.dirname(file) === prebuilds).map((file) => path.basename(file));
  expect(addon).toEqual(expect.arrayContaining(binaries));
  expect(addon.filter((name) => !binaries.includes(name) && !optional.includes(name))).toEqual([]);
  expect(files.filter((file) => /^(lib|native|test|scripts|node_modules)\b|\.map$|tsbuildinfo/.test(file))).toEqual([]);
});

test.runIf(process.platform === 'linux')('the packed addon loads wherever libtorch does', async () => {
  const script = pathToFileURL(path.join(repositoryRoot, 'scripts/symbol-versions.mjs')).href;
  const { checkSymbolVersions } = (await import(script)) as { checkSymbolVersions: (files: readonly string[]) => void };
  const prebuilds = path.join(installed, 'prebuilds', `${process.platform}-${process.arch}`);
  const files = readdirSync(prebuilds).map((name) => path.join(prebuilds, name));
  checkSymbolVersions(files);
});

test('import and require both work, and give one instance', () => {
  expect(
    runModule(
      'both.mjs',
      `import { createRequire } from 'node:module';
       import * as imported from 'torchbind';
       import { ones, Tensor, TorchBindError } from 'torchbind';
       const required = createRequire(import.meta.url)('torchbind');
       const names = Object.keys(required).filter((name) => !(name in imported));
       if (names.length > 0) throw new Error('not importable by name: ' + names);
       if (required.Tensor !== Tensor || required.TorchBindError !== TorchBindError) throw new Error('two instances');
       console.log(required.tidy(() => ones([2, 2]).sum().item()), required.memory().numTensors);`,
    ),
  ).toBe('4 0');
  expect(runModule('plain.cjs', "console.log(require('torchbind').ones([2]).sum().item())")).toBe('2');
});

test('an import opens two files of the package, and any module is the one that they hold', () => {
  expect(
    runModule(
      'files.cjs',
      `const { Tensor } = require('torchbind');
       const files = Object.keys(require.cache).filter((file) => file !== __filename);
       const root = require('node:path').dirname(files[0]);
       const same = require(root + '/tensor/tensor.js').Tensor === Tensor;
       console.log(files.map((file) => require('node:path').basename(file)).sort().join(' '), same);`,
    ),
  ).toBe('index.js torchbind.js true');
});

test('what only servers need is not installed, and the error says how to', () => {
  const source = `import { createServer } from 'torchbind';
    console.log(await createServer(null, { root: '.' }).catch(({ code, message }) => code + ' ' + message));`;
  expect(runModule('serves.mjs', source)).toMatch(/^ERR_TORCHBIND_MISSING_PACKAGE .*'npm install fastify prom-client'/);
});

test('the addon is loaded from prebuilds/, and the command runs', () => {
  const bin = (JSON.parse(readFileSync(path.join(installed, 'package.json'), 'utf8')) as { bin: { torchbind: string } })
    .bin;
  const doctor = run(process.execPath, [path.join(installed, bin.torchbind), 'doctor', '--json']);
  const { probe } = JSON.parse(doctor) as { probe: { addon: string } };
  expect(path.relative(path.join(installed, 'prebuilds'), probe.addon)).toMatch(/^[\w-]+[\\/]torchbind\.node$/);
});

/** What the compiler says of a program under flags that are stricter than `strict`. */
function compile(compiler: string, options: object): string {
  const source = `
    import { ones, ops, type Tensor, TorchBindError } from 'torchbind';
    const x: Tensor = ones([2, 3]);
    const shape: readonly number[] = x.shape;
    const sum: Tensor = ops.aten.add.Tensor(x, ops.aten.relu(x));
    // @ts-expect-error a shape is no string
    ones('2');
    // @ts-expect-error an operator that libtorch does not have
    ops.aten.adds(x);
    export { shape, sum, TorchBindError };
  `;
  for (const name of ['consumer.mts', 'consumer.cts']) writeFileSync(path.join(project, name), source);
  const compilerOptions = {
    ...{ strict: true, noUncheckedIndexedAccess: true, noPropertyAccessFromIndexSignature: true },
    ...{ exactOptionalPropertyTypes: true, noEmit: true, module: 'node16', target: 'es2022', lib: ['es2022'] },
    ...options,
  };
  const files = ['consumer.mts', 'consumer.cts'];
  writeFileSync(path.join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
  const tsc = path.join(repositoryRoot, 'node_modules', compiler, 'bin/tsc');
  const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', project], { encoding: 'utf8' });
  return status === 0 ? 'compiles' : stdout;
}

const withNode = { types: ['node'], typeRoots: [path.join(repositoryRoot, 'node_modules/@types')] };
const withoutNode = { types: [], typeRoots: [] };

// docs/tensors.md names the oldest compiler.
test.each(['typescript', 'typescript-5.0'])(
  'a strict program compiles with %s',
  (compiler) => {
    expect(compile(compiler, withNode)).toBe('compiles');
  },
  600_000,
);

test('without @types/node a program compiles if it skips the check of libraries, and else is told what is missing', () => {
  expect(compile('typescript', { ...withoutNode, skipLibCheck: true })).toBe('compiles');
  expect(compile('typescript', withoutNode)).toMatch(/Cannot find type definition file for 'node'/);
}, 600_000);
