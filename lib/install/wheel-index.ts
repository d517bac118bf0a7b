/** PyTorch's package index (PEP 503): which wheel holds the libtorch for this machine. */
import { TorchBindError } from '../errors';
import { fetchPage, UnreachableError } from './download';
import { PINNED_VERSION } from './libtorch';

const INDEX = 'https://download.pytorch.org/whl';

export interface Wheel {
  name: string;
  url: string;
  /** From the index; a wheel without one is not taken. */
  sha256: string;
  version: string;
  cpTag: string;
}

/** The page that lists torch's wheels of a variant. `TORCHBIND_MIRROR` stands in for PyTorch's index. */
export function indexPage(variant: string, env: NodeJS.ProcessEnv): string {
  const base = (env.TORCHBIND_MIRROR || INDEX).replace(/\/+$/, '');
  return `${base}/${variant}/torch/`;
}

/** Looks up the wheel to fetch. @throws {UnreachableError} where the index cannot be reached or has none that fits. */
export async function findWheel(variant: string, cpTag: string | undefined, env: NodeJS.ProcessEnv): Promise<Wheel> {
  const page = await fetchPage(indexPage(variant, env));
  const wheels = parseIndex(page.text, page.url);
  const wheel = chooseWheel(wheels, variant, cpTag, process.platform, process.arch);
  if (wheel !== undefined) return wheel;
  throw new UnreachableError(
    `${page.url} lists no wheel of torch ${PINNED_VERSION} (${variant}) for ${process.platform}-${process.arch}`,
  );
}

/** The wheels of torch that a page lists with their SHA-256. */
export function parseIndex(html: string, pageUrl: string): Wheel[] {
  const wheels: Wheel[] = [];
  for (const match of html.matchAll(/<a\s[^>]*href\s*=\s*["']([^"']+)["']/gi)) {
    const url = resolveUrl(match[1]!.replaceAll('&amp;', '&'), pageUrl);
    const name = decodeURIComponent(url.pathname.split('/').at(-1) ?? '');
    const parts = /^torch-([^-]+)-(cp\d+)-(\w+)-(.+)\.whl$/.exec(name);
    const sha256 = /sha256=([0-9a-f]{64})/i.exec(url.hash)?.[1];
    if (parts === null || sha256 === undefined) continue;
    // cp313t is Python's free-threaded build, whose wheels other interpreters cannot import.
    if (parts[3]!.endsWith('t')) continue;
    url.hash = '';
    wheels.push({ name, url: url.href, sha256, version: parts[1]!, cpTag: parts[2]! });
  }
  return wheels;
}

/** The pinned version for this platform: for the Python that is there, else the lowest that is listed. */
export function chooseWheel(
  wheels: Wheel[],
  variant: string,
  cpTag: string | undefined,
  platform: NodeJS.Platform,
  arch: string,
): Wheel | undefined {
  const tag = platformTag(platform, arch);
  const versions = [`${PINNED_VERSION}+${variant}`, PINNED_VERSION]; // macOS builds carry no variant
  const fitting = wheels
    .filter((wheel) => versions.includes(wheel.version) && tag.test(wheel.name))
    .sort((a, b) => versions.indexOf(a.version) - versions.indexOf(b.version) || tagNumber(a) - tagNumber(b));
  return fitting.find((wheel) => wheel.cpTag === cpTag) ?? fitting[0];
}

function tagNumber(wheel: Wheel): number {
  return Number(wheel.cpTag.slice('cp3'.length));
}

function platformTag(platform: NodeJS.Platform, arch: string): RegExp {
  const tags: Record<string, RegExp> = {
    'linux-x64': /linux[\w.]*_x86_64\.whl$/,
    'linux-arm64': /linux[\w.]*_aarch64\.whl$/,
    'darwin-arm64': /macosx_\w+_arm64\.whl$/,
    'win32-x64': /win_amd64\.whl$/,
  };
  const tag = tags[`${platform}-${arch}`];
  if (tag !== undefined) return tag;
  throw new TorchBindError(
    `libtorch ${PINNED_VERSION} has no build for ${platform}-${arch}. Builds exist for ${Object.keys(tags).join(', ')}.`,
    'ERR_TORCHBIND_PLATFORM',
  );
}

function resolveUrl(href: string, base: string): URL {
  try {
    return new URL(href, base);
  } catch {
    return new URL(base); // not a link to a file: its name matches nothing
  }
}
