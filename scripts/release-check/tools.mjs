// Linters at pinned versions, in the user's cache.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { inRoot } from '../steps.mjs';
import { run } from './shell.mjs';

const fromDist = (name) => createRequire(import.meta.url)(inRoot('dist', name));

/** Where a tool lives, or a base system. */
export function toolDirectory(name) {
  return path.join(fromDist('install/cache.js').cacheDirectory(), 'tools', name);
}

/** A program of a package of PyPI, `name==version`. */
export async function pythonTool(requirement, program) {
  const directory = toolDirectory(requirement.replace('==', '-'));
  const file = path.join(directory, 'bin', program);
  if (existsSync(file)) return file;
  const { findPython } = fromDist('install/python.js');
  await fromDist('install/pip.js').pipInstall(findPython(), [requirement], directory);
  return file;
}

/** A program of a Go module, `path@version`, compiled here. */
export async function goTool(module) {
  const [name, version] = module.split('@');
  const program = path.basename(name);
  const directory = toolDirectory(`${program}-${version}`);
  const file = path.join(directory, program);
  if (!existsSync(file)) await run(['go', 'install', module], { env: { GOBIN: directory } });
  return file;
}
