/** What kind of machine this is, as far as installing and loading libtorch goes. */
import { existsSync, readdirSync } from 'node:fs';

/** `linux-x64 (glibc 2.36)`, `darwin-arm64`. */
export function platformName(): string {
  const libc = process.platform !== 'linux' ? '' : isMusl() ? ' (musl)' : ` (glibc ${glibcVersion()})`;
  return `${process.platform}-${process.arch}${libc}`;
}

/** libtorch is built for glibc; Alpine and other systems on musl cannot load it. */
export function isMusl(): boolean {
  if (process.platform !== 'linux' || !hasMuslLoader()) return false; // the report below takes milliseconds
  return glibcVersion() === undefined;
}

/** An NVIDIA driver is there, so that loading CUDA libraries may be worth their hundreds of megabytes. */
export function hasNvidiaDriver(): boolean {
  if (process.platform === 'win32')
    return existsSync(`${process.env.SystemRoot ?? 'C:\\Windows'}\\System32\\nvcuda.dll`);
  return ['/dev/nvidia0', '/dev/nvidiactl', '/usr/lib/wsl/lib/libcuda.so.1'].some((file) => existsSync(file));
}

function hasMuslLoader(): boolean {
  try {
    return readdirSync('/lib').some((name) => name.startsWith('ld-musl-'));
  } catch {
    return false;
  }
}

function glibcVersion(): string | undefined {
  const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  return report.header?.glibcVersionRuntime;
}
