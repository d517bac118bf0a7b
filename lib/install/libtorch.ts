/** Facts about a libtorch directory: where its parts lie, which version it is, and whether torchbind takes it. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

/** The libtorch that torchbind is built and tested against; every patch release of this minor version is taken. */
export const PINNED_VERSION = '2.13.0';

/** Name of one of libtorch's libraries on this platform: `torch_cpu` is `libtorch_cpu.so` on Linux. */
export function libraryFile(name: string, platform: NodeJS.Platform = process.platform): string {
  if (platform === 'win32') return `${name}.dll`;
  return `lib${name}.${platform === 'darwin' ? 'dylib' : 'so'}`;
}

/** Absolute path of one of libtorch's libraries. */
export function libraryPath(root: string, name: string): string {
  return path.join(root, 'lib', libraryFile(name));
}

/**
 * The root of libtorch (the directory that holds `include/` and `lib/`) at or directly under a directory, which may
 * also be a Python site-packages directory (`torch/`) or what libtorch's zip unpacks to (`libtorch/`).
 */
export function libtorchRoot(directory: string): string | undefined {
  const candidates = [directory, path.join(directory, 'torch'), path.join(directory, 'libtorch')];
  return candidates
    .map((candidate) => path.resolve(candidate))
    .find((root) => existsSync(libraryPath(root, 'torch_cpu')));
}

/** The version of libtorch at a root, with its variant (`2.13.0+cpu`) where that is on record. */
export function libtorchVersion(root: string): string | undefined {
  return (
    capture(path.join(root, 'version.py'), /__version__ = '([^']+)'/) ??
    capture(path.join(root, 'build-version'), /^\s*(\S+)/) ??
    capture(path.join(root, 'include/torch/headeronly/version.h'), /TORCH_VERSION \\?\s*"([^"]+)"/) ??
    capture(path.join(root, 'include/torch/csrc/api/include/torch/version.h'), /TORCH_VERSION \\?\s*"([^"]+)"/)
  );
}

/** `cpu`, `cu130`, ... from a version such as `2.13.0+cu130`; `cpu` where nothing else is said. */
export function variantOf(version: string): string {
  return version.split('+')[1] ?? 'cpu';
}

/** Why torchbind does not take this version, or undefined where it does. */
export function versionRefusal(version: string | undefined, env: NodeJS.ProcessEnv): string | undefined {
  if (env.TORCHBIND_BYPASS_VERSION_CHECK === '1') return undefined;
  const wanted = minorOf(PINNED_VERSION);
  if (version === undefined) return `its version cannot be read; torchbind needs libtorch ${wanted}`;
  if (minorOf(version) === wanted) return undefined;
  return (
    `it is libtorch ${version}, and this torchbind is built for ${wanted}: another version may crash it ` +
    `(TORCHBIND_BYPASS_VERSION_CHECK=1 tries it all the same)`
  );
}

function minorOf(version: string): string {
  return version.split('.').slice(0, 2).join('.');
}

function capture(file: string, pattern: RegExp): string | undefined {
  try {
    return pattern.exec(readFileSync(file, 'utf8'))?.[1];
  } catch {
    return undefined; // the next place may hold it
  }
}
