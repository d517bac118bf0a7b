#!/usr/bin/env node
// Makes a clone ready to use: npm packages, TypeScript, libtorch, the addon. What is done already is not done again.
//
//   node scripts/setup.mjs            npm run setup
//   node scripts/setup.mjs --python   also the Python environment that the tests compare with
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { buildAddon, buildLoader } from './build-addon.mjs';
import { bundleModules } from './bundle.mjs';
import { writeEsmWrapper } from './esm-wrapper.mjs';
import { writeGpt2Ranks } from './gpt2-ranks.mjs';
import { fingerprint, inRoot, main, once, requireTools, runQuietly, say, tools } from './steps.mjs';

const require = createRequire(import.meta.url);

export async function setup({ python = false } = {}) {
  requireTools(Object.values(tools));
  await installPackages();
  await compileTypeScript();
  const { discoverLibtorch } = require(inRoot('dist/install/discover.js'));
  const { ensureLibtorch } = require(inRoot('dist/install/install.js'));
  const { terminalReporter } = require(inRoot('dist/install/report.js'));
  const reporter = terminalReporter();
  if (discoverLibtorch().found === undefined) await buildLoader(reporter);
  const libtorch = await ensureLibtorch({ reporter });
  await buildAddon(libtorch, reporter);
  if (!python) return;
  const { ensurePythonEnvironment } = require(inRoot('dist/install/python-env.js'));
  await ensurePythonEnvironment(reporter);
}

async function installPackages() {
  if (packagesAreCurrent()) return;
  say('installing npm packages');
  // npm names its own entry file; where it does not (run without npm), the one on PATH serves.
  const npm = process.env.npm_execpath?.endsWith('.js') ? [process.execPath, process.env.npm_execpath] : ['npm'];
  const args = [...npm.slice(1), 'ci', '--no-audit', '--no-fund', '--loglevel=error'];
  await runQuietly('npm ci', npm[0], args, { shell: process.platform === 'win32' && npm.length === 1 });
}

/** node_modules holds the versions that package-lock.json names. */
function packagesAreCurrent() {
  const installed = inRoot('node_modules/.package-lock.json');
  if (!existsSync(installed)) return false;
  const has = JSON.parse(readFileSync(installed, 'utf8')).packages;
  const wants = JSON.parse(readFileSync(inRoot('package-lock.json'), 'utf8')).packages;
  return Object.entries(wants).every(
    ([name, { version, optional }]) => name === '' || optional || has[name]?.version === version,
  );
}

/** dist/: CommonJS in one file, its types, and the ES module over it. */
export async function compileTypeScript() {
  const key = fingerprint([
    'lib',
    'tsconfig.json',
    'tsconfig.build.json',
    'package-lock.json',
    'scripts/bundle.mjs',
    'scripts/esm-wrapper.mjs',
    'scripts/gpt2-ranks.mjs',
  ]);
  await once('typescript', key, inRoot('dist/index.mjs'), async () => {
    say('compiling TypeScript');
    rmSync(inRoot('dist'), { recursive: true, force: true });
    rmSync(inRoot('build/tsbuildinfo'), { force: true });
    await runQuietly('tsc', process.execPath, [
      inRoot('node_modules/typescript/bin/tsc'),
      '-p',
      inRoot('tsconfig.build.json'),
    ]);
    bundleModules();
    writeGpt2Ranks();
    await writeEsmWrapper();
  });
}

if (process.argv[1] && import.meta.url === pathToFileURL(path.resolve(process.argv[1])).href) {
  main(async (args) => {
    await setup({ python: args.includes('--python') });
    say('ready');
  });
}
