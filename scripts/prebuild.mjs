#!/usr/bin/env node
// npm run prebuilds: puts the compiled addon into prebuilds/, as the package carries it.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { setup } from './setup.mjs';
import { inRoot, main, say, SetupError } from './steps.mjs';
import { checkSymbolVersions } from './symbol-versions.mjs';

/** Parts that are there where CUDA's headers were. */
const CUDA_PARTS = ['torchbind_cuda.so', 'torchbind_nccl.so'];
const ADDON =
  /^(torchbind\.node|torchbind_(core|distributed)\.(so|dylib|dll)|torchbind_mkl\.so|torchbind_(cuda|nccl)\.so)$/;

/** Compiles what is not current, and writes the addon of this platform. Those of other platforms stay. */
export async function prebuild() {
  await setup();
  const name = `${process.platform}-${process.arch}`;
  const directory = inRoot('prebuilds', name);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const built = readdirSync(inRoot('build/Release')).filter((file) => ADDON.test(file));
  const expected = { 'linux-x64': 4, 'win32-x64': 2 }[name] ?? 3;
  if (built.filter((file) => !CUDA_PARTS.includes(file)).length !== expected)
    throw new SetupError(`build/Release should hold ${expected} libraries of torchbind, and holds: ${built}`);
  const files = built.map((file) => path.join(directory, file));
  for (const file of files) copyFileSync(inRoot('build/Release', path.basename(file)), file);
  if (process.platform !== 'win32') strip(files);
  if (process.platform === 'linux') checkSymbolVersions(files);
  for (const file of files) say(`wrote ${path.relative(inRoot(), file)}`);
}

/** Takes out the names that only debuggers need. */
function strip(files) {
  const args = process.platform === 'darwin' ? ['-x'] : ['--strip-unneeded'];
  const { error, status, stderr } = spawnSync('strip', [...args, ...files], { encoding: 'utf8' });
  if (status !== 0) throw new SetupError(`strip failed: ${error?.message ?? stderr}`);
}

if (process.argv[1] && import.meta.url === pathToFileURL(path.resolve(process.argv[1])).href) main(prebuild);
