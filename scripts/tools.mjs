// Programs and base systems that the scripts need, at pinned versions, in the user's cache.
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { inRoot } from './steps.mjs';

/** A module of the compiled library. */
export const fromDist = (name) => createRequire(import.meta.url)(inRoot('dist', name));

/** Where a tool is kept. */
export function toolDirectory(name) {
  return path.join(fromDist('install/cache.js').cacheDirectory(), 'tools', name);
}

/** A directory of the cache that `fill` fills once. An interrupted attempt leaves nothing under its name. */
export async function filledOnce(name, fill) {
  const directory = toolDirectory(name);
  if (existsSync(directory)) return directory;
  const aside = `${directory}.making`;
  rmSync(aside, { recursive: true, force: true });
  mkdirSync(aside, { recursive: true });
  await fill(aside);
  renameSync(aside, directory);
  return directory;
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
