#!/usr/bin/env node
// npm run bundlers: installs the bundlers of docs/bundlers.md in a temporary directory, builds with each recipe and runs what it built,
// then the same without `external`, which must fail and name it. It needs the network, 400 MB and some minutes, so npm test runs only
// the recipes of bundlers that are there anyway.
import { spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readRecipes, RESULT, withoutExternal, writeRecipe } from './bundler-recipes.mjs';
import { setup } from './setup.mjs';
import { inRoot, main, runQuietly, say } from './steps.mjs';

const TOOLS = {
  esbuild: '0.28.2',
  rollup: '4.68.8',
  '@rollup/plugin-node-resolve': '16.0.3',
  rolldown: '1.2.18',
  vite: '8.3.8',
  webpack: '5.113.0',
  'webpack-cli': '7.3.1',
  next: '16.4.6',
  react: '19.3.1',
  'react-dom': '19.3.1',
};
const PORT = 39_417;
const { fetch } = globalThis;

main(async (args) => {
  await setup();
  const directory = mkdtempSync(path.join(tmpdir(), 'torchbind-bundlers-'));
  try {
    await makeProject(directory);
    const wanted = readRecipes().filter(({ name }) => args.length === 0 || args.includes(name));
    let failures = 0;
    for (const recipe of wanted) {
      const result = await attempt(directory, recipe);
      const named = await attempt(directory, withoutExternal(recipe));
      const isRight = result.trim() === RESULT && named.includes("mark 'torchbind' as external");
      say(`${recipe.name}: ${isRight ? 'as documented' : `wrong:\n${result}\nwithout external:\n${named}`}`);
      if (!isRight) failures++;
    }
    return failures > 0 ? 1 : 0;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

/** A project with the bundlers and this package, as it would be installed. */
async function makeProject(directory) {
  say('installing the bundlers');
  const { dependencies } = JSON.parse(readFileSync(inRoot('package.json'), 'utf8'));
  const project = { private: true, dependencies: { ...TOOLS, ...dependencies } };
  writeFileSync(path.join(directory, 'package.json'), JSON.stringify(project));
  await runQuietly('npm install', 'npm', ['install', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: directory,
    shell: process.platform === 'win32',
  });
  const installed = path.join(directory, 'node_modules/torchbind');
  mkdirSync(installed);
  for (const name of ['dist', 'package.json', 'build/Release']) {
    cpSync(inRoot(name), path.join(installed, name), { recursive: true });
  }
}

/** What the program prints that a recipe builds, or what the build says. */
async function attempt(directory, recipe) {
  for (const name of ['out', 'app', '.next']) rmSync(path.join(directory, name), { recursive: true, force: true });
  writeRecipe(directory, recipe);
  const bin = path.join(directory, 'node_modules/.bin');
  const env = { ...process.env, PATH: bin + path.delimiter + process.env.PATH, NEXT_TELEMETRY_DISABLED: '1' };
  const options = { cwd: directory, env, encoding: 'utf8' };
  const built = spawnSync(recipe.command, { ...options, shell: true });
  if (built.status !== 0) return built.stdout + built.stderr;
  if (recipe.name === 'Next') return askServer(options);
  const ran = spawnSync(process.execPath, ['out/app.mjs'], options);
  return ran.stdout + ran.stderr;
}

/** What the route of the Next recipe answers. */
async function askServer(options) {
  const next = path.join(options.cwd, 'node_modules/next/dist/bin/next');
  const server = spawn(process.execPath, [next, 'start', '-p', String(PORT)], { ...options, stdio: 'ignore' });
  try {
    for (let tries = 0; tries < 100; tries++) {
      await sleep(300);
      const answer = await fetch(`http://127.0.0.1:${PORT}/sum`).catch(() => undefined);
      if (answer !== undefined) return await answer.text();
    }
    return 'the server does not answer';
  } finally {
    server.kill('SIGKILL');
  }
}
