import { spawnSync } from 'node:child_process';
import { readdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { libtorchDirectory } from '../../lib/native/native';
import { writeLibtorch } from '../install/fixtures';
import { repositoryRoot } from '../helpers/python';
import { temporaryDirectory } from '../helpers/tmp';

/** Loads the built addon in a process of its own and prints the sum of three ones. */
function load(env: NodeJS.ProcessEnv): { status: number | null; stdout: string; stderr: string } {
  const code = `
    try {
      console.log(require('./dist/index.js').ones([3]).sum().item());
    } catch (error) {
      console.log(error.name, error.code);
      console.log(error.message);
      process.exitCode = 1;
    }`;
  const clean = { PATH: process.env.PATH, XDG_CACHE_HOME: temporaryDirectory(), ...env };
  return spawnSync(process.execPath, ['-e', code], { cwd: repositoryRoot, env: clean, encoding: 'utf8' });
}

test('libtorch is loaded from wherever it lies, without LD_LIBRARY_PATH', () => {
  const elsewhere = path.join(temporaryDirectory(), 'libtorch of mine');
  symlinkSync(libtorchDirectory(), elsewhere, 'junction');
  const { status, stdout, stderr } = load({ TORCHBIND_LIBTORCH: elsewhere });
  expect(stderr).toBe('');
  expect(stdout).toBe('3\n');
  expect(status).toBe(0);
});

test('without libtorch, one error says what was tried and names the ways out', () => {
  const { status, stdout } = load({});
  expect(status).toBe(1);
  expect(stdout).toContain('TorchBindError ERR_TORCHBIND_LOAD');
  for (const help of [
    'nothing has been installed there yet',
    'npx torchbind install',
    'TORCHBIND_LIBTORCH=',
    'TORCHBIND_USE_PYTORCH=1',
    `Node ${process.versions.node}`,
  ]) {
    expect(stdout).toContain(help);
  }
});

test('another minor version is refused before anything of it is loaded', () => {
  const { status, stdout } = load({ TORCHBIND_LIBTORCH: writeLibtorch(temporaryDirectory(), '2.9.0+cpu') });
  expect(status).toBe(1);
  expect(stdout).toMatch(/TORCHBIND_LIBTORCH: .*libtorch 2\.9\.0\+cpu.*built for 2\.13/);
});

test('a library that cannot be opened is an error with the reason of the dynamic linker', () => {
  const { status, stdout } = load({ TORCHBIND_LIBTORCH: writeLibtorch(temporaryDirectory(), '2.13.0') });
  expect(status).toBe(1);
  expect(stdout).toMatch(/ERR_TORCHBIND_LOAD[\s\S]*libtorch 2\.13\.0.*was not loaded: .*c10/);
});

test('build/Release holds the libraries of torchbind and nothing else', () => {
  const names = readdirSync(path.join(repositoryRoot, 'build/Release')).sort();
  const forMkl = process.platform === 'linux' && process.arch === 'x64' ? ['torchbind_mkl.so'] : [];
  const distributed = expect.stringMatching(/^torchbind_distributed\.(so|dylib)$/) as string;
  const core = expect.stringMatching(/^torchbind_core\.(so|dylib|dll)$/) as string;
  expect(names).toEqual(['torchbind.node', core, distributed, ...forMkl]);
});
