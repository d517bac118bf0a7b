import { mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { TorchBindError } from '../../lib/errors';
import { libtorchCache, writeStamp } from '../../lib/install/cache';
import { discoverLibtorch } from '../../lib/install/discover';
import { libraryFile } from '../../lib/install/libtorch';
import { temporaryDirectory } from '../helpers/tmp';
import { writeLibtorch } from './fixtures';

/** Every place that discovery knows, each with a libtorch in it. */
function everyPlace(): { env: NodeJS.ProcessEnv; cached: string } {
  const directory = temporaryDirectory();
  const env: NodeJS.ProcessEnv = {
    PATH: process.env.PATH,
    XDG_CACHE_HOME: path.join(directory, 'cache'),
    TORCHBIND_LIBTORCH: writeLibtorch(path.join(directory, 'own'), '2.13.0+cpu'),
    LIBTORCH: writeLibtorch(path.join(directory, 'usual'), '2.13.1'),
    TORCHBIND_USE_PYTORCH: '1',
    PYTHONPATH: path.join(directory, 'site-packages'),
  };
  const torch = writeLibtorch(path.join(env.PYTHONPATH!, 'torch'), '2.13.0+cpu');
  writeFileSync(path.join(torch, '__init__.py'), 'raise RuntimeError("discovery must not import torch")');
  return { env, cached: writeCached(env, '2.13.0+cpu') };
}

function writeCached(env: NodeJS.ProcessEnv, version: string): string {
  const entry = path.join(libtorchCache(env), `${version.replace('+', '-')}-cp311`);
  writeLibtorch(path.join(entry, 'torch'), version);
  writeStamp(entry, { version, variant: 'cpu', source: 'test', sha256: '' });
  return entry;
}

test('the order is TORCHBIND_LIBTORCH, LIBTORCH, the torch of Python when asked for, the cache', () => {
  const { env, cached } = everyPlace();
  expect(discoverLibtorch(env).found).toEqual({
    source: 'TORCHBIND_LIBTORCH',
    root: env.TORCHBIND_LIBTORCH,
    version: '2.13.0+cpu',
  });
  delete env.TORCHBIND_LIBTORCH;
  expect(discoverLibtorch(env).found).toMatchObject({ source: 'LIBTORCH', root: env.LIBTORCH, version: '2.13.1' });
  delete env.LIBTORCH;
  expect(discoverLibtorch(env).found).toMatchObject({
    source: 'TORCHBIND_USE_PYTORCH',
    root: path.join(env.PYTHONPATH!, 'torch'),
  });
  delete env.TORCHBIND_USE_PYTORCH;
  expect(discoverLibtorch(env).found).toMatchObject({ source: 'cache', root: path.join(cached, 'torch') });
});

test('a directory may be the root, or hold it as torch/ or libtorch/', () => {
  const directory = temporaryDirectory();
  const torch = writeLibtorch(path.join(directory, 'a/torch'), '2.13.0');
  const libtorch = writeLibtorch(path.join(directory, 'b/libtorch'), '2.13.0');
  const rootOf = (place: string): string | undefined => discoverLibtorch({ TORCHBIND_LIBTORCH: place }).found?.root;
  expect(rootOf(torch)).toBe(torch);
  expect(rootOf(path.join(directory, 'a'))).toBe(torch);
  expect(rootOf(path.join(directory, 'b'))).toBe(libtorch);
});

test('what the environment names is meant: where it cannot be used, nothing else is taken in its place', () => {
  const { env } = everyPlace();
  const nowhere = path.join(temporaryDirectory(), 'nowhere');
  const { found, refused } = discoverLibtorch({ ...env, TORCHBIND_LIBTORCH: nowhere });
  expect(found).toBeUndefined();
  expect(refused).toEqual([
    { source: 'TORCHBIND_LIBTORCH', path: nowhere, reason: expect.stringContaining('torch_cpu') as string },
  ]);
});

test('another minor version is refused unless the check is bypassed', () => {
  const env: NodeJS.ProcessEnv = { TORCHBIND_LIBTORCH: writeLibtorch(temporaryDirectory(), '2.12.1+cpu') };
  expect(discoverLibtorch(env).refused[0]?.reason).toMatch(/2\.12\.1.*2\.13.*TORCHBIND_BYPASS_VERSION_CHECK=1/);
  expect(discoverLibtorch({ ...env, TORCHBIND_BYPASS_VERSION_CHECK: '1' }).found?.version).toBe('2.12.1+cpu');
});

test('the version is also read from the headers', () => {
  const directory = temporaryDirectory();
  const headers = path.join(directory, 'include/torch/headeronly');
  mkdirSync(headers, { recursive: true });
  mkdirSync(path.join(directory, 'lib'));
  writeFileSync(path.join(directory, 'lib', libraryFile('torch_cpu')), '');
  writeFileSync(path.join(headers, 'version.h'), '#define TORCH_VERSION \\\n  "2.13.2"\n');
  expect(discoverLibtorch({ LIBTORCH: directory }).found?.version).toBe('2.13.2');
});

test('a cached libtorch is taken only with its stamp, and only while its libraries are what the stamp says', () => {
  const env: NodeJS.ProcessEnv = { XDG_CACHE_HOME: temporaryDirectory() };
  expect(discoverLibtorch(env).refused[0]?.reason).toMatch(/nothing has been installed/);
  const entry = writeCached(env, '2.13.0+cpu');
  expect(discoverLibtorch(env).found).toBeDefined();
  writeFileSync(path.join(entry, 'torch/lib', libraryFile('torch_cpu')), 'cut short');
  expect(discoverLibtorch(env).refused[0]?.reason).toMatch(/damaged.*torch_cpu.*9 bytes instead of 0/);
  writeFileSync(path.join(entry, 'torchbind-stamp.json'), '{');
  expect(discoverLibtorch(env).refused[0]?.reason).toMatch(/incomplete/);
});

test('a user without a home directory is told which variables to set', () => {
  // As for `docker run --user 12345`, where the password file has no entry.
  const homedir = vi.spyOn(os, 'homedir').mockImplementation(() => {
    throw new Error('A system error occurred: uv_os_homedir returned ENOENT (no such file or directory)');
  });
  onTestFinished(() => homedir.mockRestore());
  const { found, refused } = discoverLibtorch({});
  expect(found).toBeUndefined();
  expect(refused[0]!.reason).toMatch(/no home directory.*XDG_CACHE_HOME or HOME.*TORCHBIND_LIBTORCH/);
  expect(() => libtorchCache({})).toThrow(TorchBindError);
  expect(libtorchCache({ XDG_CACHE_HOME: '/cache' })).toBe(path.join('/cache/torchbind/libtorch'));
});
