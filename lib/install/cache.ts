/** The user's cache, shared by all projects: where it is, what it holds, and whether what it holds is whole. */
import { existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { TorchBindError } from '../errors';
import { homeDirectory } from '../home';
import { hasNvidiaDriver } from './platform';
import { libtorchRoot } from './libtorch';

/** Written last, at the top of an unpacked libtorch: an entry without it is not complete. */
export interface Stamp {
  version: string;
  /** `cpu`, `cu130`, ... */
  variant: string;
  /** Address or file that it was made from. */
  source: string;
  /** Of the wheel or zip. */
  sha256: string;
  /** Path under the entry -> size in bytes. */
  libraries: Record<string, number>;
}

const STAMP = 'torchbind-stamp.json';

/**
 * `$XDG_CACHE_HOME/torchbind`, or its place where that is not set.
 *
 * @throws ERR_TORCHBIND_LIBTORCH for a user without a home directory. A directory for all users, such as /tmp, is not taken
 *   instead: libraries are loaded from the cache, and another user could have put them there.
 */
export function cacheDirectory(env: NodeJS.ProcessEnv = process.env): string {
  if (env.XDG_CACHE_HOME) return path.join(env.XDG_CACHE_HOME, 'torchbind');
  if (process.platform === 'win32' && env.LOCALAPPDATA) return path.join(env.LOCALAPPDATA, 'torchbind');
  const home = homeDirectory();
  if (home !== undefined) return path.join(home, '.cache', 'torchbind');
  throw new TorchBindError(
    `No directory for the cache: user ${process.getuid?.() ?? ''} has no home directory. Set XDG_CACHE_HOME or HOME to a ` +
      'directory of this user, or TORCHBIND_LIBTORCH to an existing libtorch.',
    'ERR_TORCHBIND_LIBTORCH',
  );
}

/** Where unpacked libtorch builds lie, one directory each: `<version>-<variant>-<Python tag>`. */
export function libtorchCache(env: NodeJS.ProcessEnv = process.env): string {
  return path.join(cacheDirectory(env), 'libtorch');
}

/** Why no cache is available, or undefined if one is. */
export function cacheProblem(env: NodeJS.ProcessEnv = process.env): string | undefined {
  try {
    cacheDirectory(env);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Entries of the cache, the one to prefer first: CUDA builds if there is an NVIDIA driver, CPU builds elsewhere. */
export function cacheEntries(env: NodeJS.ProcessEnv = process.env): string[] {
  const directory = libtorchCache(env);
  if (!existsSync(directory)) return [];
  const isPreferred = (name: string): boolean => name.includes('-cu') === hasNvidiaDriver();
  return readdirSync(directory)
    .filter((name) => /^\d+\.\d+\.\d+[^-]*-[a-z0-9]+-[a-z0-9]+$/.test(name))
    .sort((a, b) => Number(isPreferred(b)) - Number(isPreferred(a)) || a.localeCompare(b))
    .map((name) => path.join(directory, name));
}

/** Records what an unpacked libtorch is made of. Call it last. */
export function writeStamp(entry: string, stamp: Omit<Stamp, 'libraries'>): void {
  writeFileSync(path.join(entry, STAMP), `${JSON.stringify({ ...stamp, libraries: librarySizes(entry) }, null, 2)}\n`);
}

/** The stamp of an entry, or undefined without a readable one. */
export function readStamp(entry: string): Stamp | undefined {
  try {
    const stamp = JSON.parse(readFileSync(path.join(entry, STAMP), 'utf8')) as Partial<Stamp>;
    if (typeof stamp.version !== 'string' || typeof stamp.variant !== 'string') return undefined;
    if (typeof stamp.libraries !== 'object' || stamp.libraries === null) return undefined;
    return stamp as Stamp;
  } catch {
    return undefined;
  }
}

/** Why an entry of the cache cannot be used, or undefined where it is whole. */
export function stampProblem(entry: string): string | undefined {
  const stamp = readStamp(entry);
  if (stamp === undefined) return `it is incomplete (no readable ${STAMP}); delete it and run: npx torchbind install`;
  for (const [file, size] of Object.entries(stamp.libraries)) {
    const found = statSync(path.join(entry, file), { throwIfNoEntry: false })?.size;
    if (found === size) continue;
    const what = found === undefined ? 'is missing' : `has ${found} bytes instead of ${size}`;
    return `it is damaged: ${file} ${what}; delete it and run: npx torchbind install`;
  }
  return undefined;
}

function librarySizes(entry: string): Record<string, number> {
  const root = libtorchRoot(entry);
  if (root === undefined) throw new Error(`${entry} holds no libtorch`);
  const sizes: Record<string, number> = {};
  for (const directory of [path.join(root, 'lib'), path.join(entry, 'nvidia/cu13/lib')]) {
    if (!existsSync(directory)) continue;
    for (const name of readdirSync(directory).sort()) {
      const file = path.join(directory, name);
      if (!/\.(so|dylib|dll)(\.|$)/.test(name) || !statSync(file).isFile()) continue;
      sizes[path.relative(entry, file).split(path.sep).join('/')] = statSync(file).size;
    }
  }
  return sizes;
}
