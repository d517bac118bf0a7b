import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { libtorchCache, readStamp } from '../../lib/install/cache';
import { discoverLibtorch } from '../../lib/install/discover';
import { ensureLibtorch, installLibtorch } from '../../lib/install/install';
import { libraryFile } from '../../lib/install/libtorch';
import { sharedTemporaryDirectory, temporaryDirectory } from '../helpers/tmp';
import { NOWHERE, python, serveIndex, sha256, writeLibtorch, writeWheel, writeZip } from './fixtures';

const wheel = writeWheel(sharedTemporaryDirectory());

/** A cache of its own, and none of the variables that would keep it from being used. */
function emptyCache(more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH, XDG_CACHE_HOME: temporaryDirectory(), ...more };
}

test('libtorch is fetched from the index into the cache, stamped, and found from then on', async () => {
  const { mirror, asked } = await serveIndex(wheel);
  const env = emptyCache({ TORCHBIND_MIRROR: mirror });
  const libtorch = await ensureLibtorch({ env });
  expect(libtorch).toMatchObject({ source: 'cache', version: '2.13.0+cpu' });
  const entry = path.dirname(libtorch.root);
  expect(path.basename(entry)).toBe(`2.13.0-cpu-${python.cpTag}`);
  expect(readStamp(entry)).toMatchObject({ variant: 'cpu', sha256: sha256(readFileSync(wheel)) });
  expect(readStamp(entry)!.libraries[`torch/lib/${libraryFile('torch_cpu')}`]).toBe(50_000);
  // Of the way there only the lock's file is left, which nobody holds.
  expect(readdirSync(libtorchCache(env)).sort()).toEqual(['.lock', path.basename(entry), 'downloads']);
  expect(readdirSync(path.join(libtorchCache(env), 'downloads'))).toEqual([]);
  const requests = asked.length;
  expect(await ensureLibtorch({ env })).toEqual(libtorch);
  expect(asked).toHaveLength(requests);
});

test('a wheel that is not the one the index lists is refused, and pip is not asked for another', async () => {
  const { mirror } = await serveIndex(wheel, '0'.repeat(64));
  const env = emptyCache({ TORCHBIND_MIRROR: mirror });
  await expect(ensureLibtorch({ env })).rejects.toMatchObject({ code: 'ERR_TORCHBIND_CHECKSUM' });
  expect(discoverLibtorch(env).found).toBeUndefined();
});

test('where the index cannot be reached, pip fetches under its own configuration', async () => {
  const steps: string[] = [];
  const reporter = { step: (text: string) => void steps.push(text), progress: () => undefined };
  const offline = { TORCHBIND_MIRROR: NOWHERE, PIP_NO_INDEX: '1', PIP_FIND_LINKS: path.dirname(wheel) };
  const env = emptyCache(offline);
  for (const [name, value] of Object.entries(offline)) process.env[name] = value;
  const libtorch = await ensureLibtorch({ env, reporter });
  expect(libtorch.version).toBe('2.13.0+cpu');
  expect(steps.join('\n')).toMatch(/cannot be reached.*asking pip/);
  expect(readStamp(path.dirname(libtorch.root))!.source).toBe('pip download torch==2.13.0');
});

test('without the index and without Python, the message names the ways out', async () => {
  const env = emptyCache({ TORCHBIND_MIRROR: NOWHERE, PATH: temporaryDirectory() });
  await expect(ensureLibtorch({ env })).rejects.toThrow(/Install Python 3.*TORCHBIND_MIRROR.*--from-file/);
});

test('--from-file takes a wheel, or a zip of libtorch, and fetches nothing', async () => {
  const env = emptyCache({ TORCHBIND_MIRROR: NOWHERE });
  expect(existsSync(await installLibtorch({ fromFile: wheel, env }))).toBe(true);
  const zip = path.join(temporaryDirectory(), 'libtorch.zip');
  writeZip(zip, { [`libtorch/lib/${libraryFile('torch_cpu')}`]: 'x', 'libtorch/build-version': '2.13.0+cpu\n' });
  expect(path.basename(await installLibtorch({ fromFile: zip, env }))).toBe('2.13.0-cpu-any');
  expect(existsSync(wheel)).toBe(true);
  await expect(installLibtorch({ fromFile: '/nowhere.whl', env })).rejects.toThrow(
    /The file \/nowhere\.whl does not exist/,
  );
});

test('an archive of another version, or without libtorch, is refused and leaves nothing', async () => {
  const env = emptyCache();
  const old = writeWheel(temporaryDirectory(), '2.12.0+cpu');
  await expect(installLibtorch({ fromFile: old, env })).rejects.toThrow(/2\.12\.0.*built for 2\.13/);
  const other = path.join(temporaryDirectory(), 'other.zip');
  writeZip(other, { 'readme.txt': 'nothing here' });
  await expect(installLibtorch({ fromFile: other, env })).rejects.toThrow(/holds no libtorch/);
  writeFileSync(other, 'no zip at all');
  await expect(installLibtorch({ fromFile: other, env })).rejects.toMatchObject({ code: 'ERR_TORCHBIND_ARCHIVE' });
  expect(readdirSync(libtorchCache(env)).sort()).toEqual(['.lock', 'downloads']);
});

test.each(['../outside.txt', '/tmp/torchbind-outside.txt', 'torch/../../outside.txt'])(
  'an archive cannot write outside the directory that it is unpacked into: %s',
  async (name) => {
    const env = emptyCache();
    const file = path.join(temporaryDirectory(), 'hostile.zip');
    writeZip(file, { [name]: 'escaped', 'torch/version.py': "__version__ = '2.13.0'" });
    await expect(installLibtorch({ fromFile: file, env })).rejects.toMatchObject({ code: 'ERR_TORCHBIND_ARCHIVE' });
    expect(existsSync(path.join(libtorchCache(env), 'outside.txt'))).toBe(false);
    expect(existsSync('/tmp/torchbind-outside.txt')).toBe(false);
  },
);

test('two installers at once make one entry', async () => {
  const { mirror } = await serveIndex(wheel);
  const env = emptyCache({ TORCHBIND_MIRROR: mirror });
  const [one, two] = await Promise.all([ensureLibtorch({ env }), ensureLibtorch({ env })]);
  expect(one).toEqual(two);
  expect(discoverLibtorch(env).found).toEqual(one);
});

test('a damaged entry is replaced', async () => {
  const { mirror } = await serveIndex(wheel);
  const env = emptyCache({ TORCHBIND_MIRROR: mirror });
  const { root } = await ensureLibtorch({ env });
  rmSync(path.join(root, 'lib', libraryFile('c10')));
  expect(discoverLibtorch(env).found).toBeUndefined();
  await ensureLibtorch({ env });
  expect(existsSync(path.join(root, 'lib', libraryFile('c10')))).toBe(true);
});

test('a libtorch that the environment names and that cannot be used is not replaced behind its back', async () => {
  const env = emptyCache({ TORCHBIND_LIBTORCH: writeLibtorch(temporaryDirectory(), '2.5.0') });
  mkdirSync(libtorchCache(env), { recursive: true });
  await expect(ensureLibtorch({ env })).rejects.toThrow(
    /TORCHBIND_LIBTORCH names a libtorch that cannot be used.*2\.5\.0/,
  );
});
