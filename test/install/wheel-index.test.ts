import { describe, expect, test } from 'vitest';
import { chooseWheel, indexPage, parseIndex } from '../../lib/install/wheel-index';

const digest = 'a'.repeat(64);
const page = 'https://mirror.example/whl/cpu/torch/';

function link(name: string, fragment = `#sha256=${digest}`): string {
  return `<a href="/whl/cpu/${encodeURIComponent(name)}${fragment}" data-dist-info-metadata="sha256=00">${name}</a><br/>`;
}

const names = [
  'torch-2.12.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl',
  'torch-2.13.0+cpu-cp312-cp312-manylinux_2_28_x86_64.whl',
  'torch-2.13.0+cpu-cp310-cp310-manylinux_2_28_x86_64.whl',
  'torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl',
  'torch-2.13.0+cpu-cp313-cp313t-manylinux_2_28_x86_64.whl',
  'torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_aarch64.whl',
  'torch-2.13.0+cpu-cp311-cp311-win_amd64.whl',
  'torch-2.13.0-cp311-none-macosx_11_0_arm64.whl',
];
const wheels = parseIndex(names.map((name) => link(name)).join('\n'), page);

describe('the index page', () => {
  test('gives name, address, version, Python tag and SHA-256 of each wheel', () => {
    expect(parseIndex(link(names[3]!), page)).toEqual([
      {
        name: names[3],
        url: 'https://mirror.example/whl/cpu/torch-2.13.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl',
        sha256: digest,
        version: '2.13.0+cpu',
        cpTag: 'cp311',
      },
    ]);
  });

  test('a wheel without a SHA-256, another project and a broken address are passed over', () => {
    const html = link(names[3]!, '') + link('torchvision-0.1-cp311-cp311-win_amd64.whl') + '<a href="http://[">x</a>';
    expect(parseIndex(html, page)).toEqual([]);
  });
});

describe('the wheel to fetch', () => {
  const choose = (cpTag: string | undefined, platform: NodeJS.Platform, arch: string): string | undefined =>
    chooseWheel(wheels, 'cpu', cpTag, platform, arch)?.name;

  test('is of the pinned version, for the Python that is there', () => {
    expect(choose('cp311', 'linux', 'x64')).toBe(names[3]);
    expect(choose('cp312', 'linux', 'x64')).toBe(names[1]);
  });

  test('is the one for the lowest Python if there is no Python, or none for it', () => {
    expect(choose(undefined, 'linux', 'x64')).toBe(names[2]);
    expect(choose('cp399', 'linux', 'x64')).toBe(names[2]);
  });

  test('fits the platform', () => {
    expect(choose('cp311', 'linux', 'arm64')).toBe(names[5]);
    expect(choose('cp311', 'win32', 'x64')).toBe(names[6]);
    expect(choose('cp311', 'darwin', 'arm64')).toBe(names[7]);
  });

  test('does not exist for a platform that libtorch is not built for', () => {
    expect(() => choose('cp311', 'darwin', 'x64')).toThrow(/libtorch 2\.13\.0 has no build for darwin-x64.*linux-x64/);
  });
});

test('TORCHBIND_MIRROR stands in for the index', () => {
  expect(indexPage('cpu', {})).toMatch(/^https:\/\/.*\/cpu\/torch\/$/);
  expect(indexPage('cu130', { TORCHBIND_MIRROR: 'http://mirror.local/whl/' })).toBe(
    'http://mirror.local/whl/cu130/torch/',
  );
});
