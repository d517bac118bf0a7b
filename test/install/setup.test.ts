import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { expect, test } from 'vitest';
import { repositoryRoot } from '../helpers/python';
import { temporaryDirectory } from '../helpers/tmp';

test('missing tools are named in one message, each with how to get it', () => {
  const env = { PATH: temporaryDirectory() };
  const result = spawnSync(process.execPath, [path.join(repositoryRoot, 'scripts/setup.mjs')], {
    env,
    encoding: 'utf8',
  });
  expect(result.status).toBe(1);
  expect(result.stderr.split('\n')[0]).toMatch(/^torchbind: set-up needs what is not on this machine:$/);
  for (const tool of ['python3', 'python3-pip', 'cmake', 'g++', 'ninja-build']) {
    expect(result.stderr).toContain(`apt-get install ${tool}'`);
  }
  expect(result.stderr).not.toMatch(/Node\.js 20|\n\s+at /);
});
