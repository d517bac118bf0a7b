import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { expect, test } from 'vitest';
import { repositoryRoot } from '../helpers/python';
import { temporaryDirectory } from '../helpers/tmp';
import { NOWHERE, writeLibtorch, writeWheel } from './fixtures';

/** Runs the built command with an empty cache, unless `env` says otherwise. */
function torchbind(
  args: string[],
  env: NodeJS.ProcessEnv = {},
): { status: number | null; stdout: string; stderr: string } {
  const clean = { PATH: process.env.PATH, XDG_CACHE_HOME: temporaryDirectory(), TORCHBIND_MIRROR: NOWHERE, ...env };
  const cli = path.join(repositoryRoot, 'dist/cli/main.js');
  return spawnSync(process.execPath, [cli, ...args], { env: clean, encoding: 'utf8', timeout: 60_000 });
}

test('install --from-file --json prints what was installed, and install --dry-run --json then finds it', () => {
  const wheel = writeWheel(temporaryDirectory());
  const cache = { XDG_CACHE_HOME: temporaryDirectory() };
  const installed = torchbind(['install', '--from-file', wheel, '--json'], cache);
  expect(installed.status, installed.stderr).toBe(0);
  expect(JSON.parse(installed.stdout)).toMatchObject({ source: 'cache', version: '2.13.0+cpu' });
  const plan = JSON.parse(torchbind(['install', '--dry-run', '--json'], cache).stdout) as Record<string, unknown>;
  expect(plan).toMatchObject({ found: JSON.parse(installed.stdout) as unknown, wouldFetchFrom: null });
});

test('install --dry-run on an empty cache says where it would fetch from, and fetches nothing', () => {
  const { status, stdout } = torchbind(['install', '--dry-run', '--json']);
  expect(status).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ found: null, wouldFetchFrom: `${NOWHERE}/cpu/torch/` });
});

test('doctor --json on a machine that is set up says that it works', () => {
  const { status, stdout } = torchbind(['doctor', '--json'], {
    ...process.env,
    XDG_CACHE_HOME: process.env.XDG_CACHE_HOME, // the user's own cache, also where it has the default place
  });
  const diagnosis = JSON.parse(stdout) as { ok: boolean; probe: { torch: string; addon: string } };
  expect(diagnosis.ok, stdout).toBe(true);
  expect(diagnosis.probe.torch).toMatch(/^2\.13\./);
  expect(status).toBe(0);
});

test('doctor tells what stands in the way', () => {
  const refused = torchbind(['doctor'], { TORCHBIND_LIBTORCH: writeLibtorch(temporaryDirectory(), '2.10.0') });
  expect(refused.status).toBe(1);
  expect(refused.stdout).toMatch(/not taken \(TORCHBIND_LIBTORCH\).*libtorch 2\.10\.0/);
  expect(refused.stdout).toMatch(/torchbind does not work here/);
});

test('an unknown flag or command is refused with the place of the usage', () => {
  for (const args of [['install', '--varient', 'cpu'], ['instal']]) {
    const { status, stderr } = torchbind(args);
    expect(status).toBe(2);
    expect(stderr).toMatch(/--varient|'instal'/);
    expect(stderr).toMatch(/See: torchbind (install )?--help/);
  }
});
