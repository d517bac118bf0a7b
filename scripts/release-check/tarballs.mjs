// The package as npm would publish it, and one of a lower version to update from.
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { inRoot, say, SetupError } from '../steps.mjs';
import { run } from './shell.mjs';

const LARGEST = 2_000_000;
export const OLDER_VERSION = '0.0.1';

/** A file that only the older package has: an update must remove it. */
export const ONLY_IN_OLDER = 'dist/only-in-older.js';

/** `{ tarball, older, version }`, paths of both packages. Packing compiles what is not current. */
export async function packBoth(directory) {
  say('packing');
  const tarball = await pack(inRoot(), path.join(directory, 'new'));
  const { version } = JSON.parse(readFileSync(inRoot('package.json'), 'utf8'));
  const source = path.join(directory, 'older-source');
  mkdirSync(source);
  await run(['tar', '-xzf', tarball, '-C', source]);
  const root = path.join(source, 'package');
  const manifest = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
  writeFileSync(path.join(root, 'package.json'), JSON.stringify({ ...manifest, version: OLDER_VERSION }));
  writeFileSync(path.join(root, ONLY_IN_OLDER), '');
  return { tarball, version, older: await pack(root, path.join(directory, 'older'), ['--ignore-scripts']) };
}

async function pack(source, to, flags = []) {
  mkdirSync(to);
  await run(['npm', 'pack', '--silent', ...flags, '--pack-destination', to], { cwd: source });
  return path.join(
    to,
    readdirSync(to).find((name) => name.endsWith('.tgz')),
  );
}

/** @returns the size in words */
export function checkSize({ tarball }) {
  const { size } = statSync(tarball);
  const text = `${size.toLocaleString('en')} bytes`;
  if (size >= LARGEST) throw new SetupError(`expected less than ${LARGEST.toLocaleString('en')} bytes, got ${text}`);
  return text;
}
