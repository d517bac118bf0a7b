#!/usr/bin/env node
// npm run prebuilds: puts the compiled addon into prebuilds/, as the package carries it.
//
//     npm run prebuilds                      for this platform
//     npm run prebuilds -- --arm64 [--try]   for Linux on arm64 too, cross-compiled; --try loads it under qemu
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { buildArm64, stripArm64, tryArm64 } from './prebuild-arm64.mjs';
import { setup } from './setup.mjs';
import { inRoot, main, say, SetupError } from './steps.mjs';
import { checkSymbolVersions } from './symbol-versions.mjs';

/** Parts that are there where CUDA's headers were. */
const CUDA_PARTS = ['torchbind_cuda.so', 'torchbind_nccl.so'];
const ADDON =
  /^(torchbind\.node|torchbind_(core|distributed)\.(so|dylib|dll)|torchbind_mkl\.so|torchbind_(cuda|nccl)\.so)$/;

/** Compiles what is not current, and writes the addon of this platform. Those of other platforms stay. */
export async function prebuild(args = []) {
  const unknown = args.find((flag) => flag !== '--arm64' && flag !== '--try');
  if (unknown !== undefined) throw new SetupError(`expected --arm64 or --try, got ${unknown}`);
  await setup();
  write(inRoot('build/Release'), `${process.platform}-${process.arch}`, 'strip');
  if (!args.includes('--arm64')) return;
  write(await buildArm64(), 'linux-arm64', stripArm64);
  if (args.includes('--try')) await tryArm64();
}

function write(source, name, stripper) {
  const directory = inRoot('prebuilds', name);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const built = readdirSync(source).filter((file) => ADDON.test(file));
  const expected = { 'linux-x64': 4, 'win32-x64': 2 }[name] ?? 3;
  if (built.filter((file) => !CUDA_PARTS.includes(file)).length !== expected)
    throw new SetupError(`${source} should hold ${expected} libraries of torchbind, and holds: ${built}`);
  const files = built.map((file) => path.join(directory, file));
  for (const file of files) copyFileSync(path.join(source, path.basename(file)), file);
  if (process.platform !== 'win32') strip(stripper, files);
  if (process.platform === 'linux') checkSymbolVersions(files);
  for (const file of files) say(`wrote ${path.relative(inRoot(), file)}`);
}

/** Takes out the names that only debuggers need. */
function strip(program, files) {
  const args = process.platform === 'darwin' ? ['-x'] : ['--strip-unneeded'];
  const { error, status, stderr } = spawnSync(program, [...args, ...files], { encoding: 'utf8' });
  if (status !== 0) throw new SetupError(`${program} failed: ${error?.message ?? stderr}`);
}

if (process.argv[1] && import.meta.url === pathToFileURL(path.resolve(process.argv[1])).href) main(prebuild);
