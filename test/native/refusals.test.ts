/** Node-API refuses now and then what it was given to own: a buffer too large, an environment that ends. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { repositoryRoot } from '../helpers/python';
import { temporaryDirectory } from '../helpers/tmp';

const children = path.join(__dirname, 'children');

function run(file: string, env: NodeJS.ProcessEnv = {}): string {
  const { stdout, stderr, status, signal } = spawnSync(process.execPath, ['--expose-gc', path.join(children, file)], {
    cwd: repositoryRoot,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    timeout: 60_000,
  });
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
  return stdout;
}

test('a storage too large for an ArrayBuffer is freed once, and the error names the copy', { timeout: 60_000 }, () => {
  expect(run('large-storage.mjs')).toMatch(/^(4|ERR_TORCHBIND_UNSUPPORTED .*toTypedArray\(\).*)\n\[ 4 \]\n$/);
});

/** A copy of the addon that asks for `nope_create_external` and the like, which a small library answers. */
function refusableAddon(): NodeJS.ProcessEnv {
  const directory = temporaryDirectory();
  const release = path.join(directory, 'build/Release');
  mkdirSync(release, { recursive: true });
  const [loader, core] = ['torchbind.node', 'torchbind_core.so'];
  copyFileSync(path.join(repositoryRoot, 'build/Release', loader!), path.join(release, loader!));
  let text = readFileSync(path.join(repositoryRoot, 'build/Release', core!), 'latin1');
  for (const name of ['create_external', 'create_external_arraybuffer', 'queue_async_work']) {
    expect(text).toContain(`\0napi_${name}\0`);
    text = text.replace(`\0napi_${name}\0`, `\0nope_${name}\0`);
  }
  writeFileSync(path.join(release, core!), text, 'latin1');
  const library = path.join(directory, 'refuse.so');
  const args = ['-O1', '-Wall', '-Wextra', '-Werror', '-fPIC', '-shared', '-D_GNU_SOURCE', '-o', library];
  const { status, stderr } = spawnSync('cc', [...args, path.join(children, 'refuse.c'), '-ldl'], { encoding: 'utf8' });
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return { TORCHBIND_PREBUILD: directory, LD_PRELOAD: library };
}

describe.runIf(process.platform === 'linux')('where Node-API refuses', () => {
  test('nothing is freed twice, and nothing stays fixed', { timeout: 60_000 }, () => {
    const results = JSON.parse(run('refused.cjs', refusableAddon())) as Record<string, unknown>;
    expect(results).toEqual({
      buffer: ['ERR_TORCHBIND_UNSUPPORTED', 1000, 1],
      finalizedBuffer: ['ERR_TORCHBIND_UNSUPPORTED', 1000, 1],
      work: ['Error', [1000]],
      external: ['Error', 'Error', 'Error', 'Error', [2, 2, 2]],
    });
  });
});
