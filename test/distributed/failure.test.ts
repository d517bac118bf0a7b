/** Ranks that end, are killed, are slow, or make other calls. */
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { repositoryRoot } from '../helpers/python';
import { temporaryDirectory } from '../helpers/tmp';
import { runRanks, startRanks } from './ranks';

interface Failure {
  code: string;
  message: string;
  milliseconds: number;
}

it('a killed rank rejects the call of the other at once, with its address', async () => {
  const [zero, one] = await startRanks([{ part: 'waits' }, { part: 'leaves' }]);
  await Promise.all([zero, one].map((each) => new Promise((resolve) => each!.child.stdout!.once('data', resolve))));
  one!.child.kill('SIGKILL');
  const { status, said } = await zero!.ended;
  const failure = said.at(-1) as Failure;
  expect(status).toBe(3);
  expect(failure.code).toBe('ERR_TORCHBIND_RANK_LOST');
  expect(failure.message).toMatch(/^allReduce \(rank 0 of 2\): .*127\.0\.0\.1/);
  expect(failure.message).not.toContain('typically caused by');
  // Far below the timeout of the group, which is 60 seconds.
  expect(failure.milliseconds).toBeLessThan(20_000);
  await one!.ended;
});

it('a rank killed during fit rejects that of the other, with the same code', async () => {
  const options = { maxSteps: 1_000_000, seed: 7, evalInterval: 0, batchSize: 2, notify: true };
  const [zero, one] = await startRanks([{ part: 'fits' }, { part: 'fits' }], [JSON.stringify(options)]);
  await new Promise((resolve) => zero!.child.stdout!.once('data', resolve));
  one!.child.kill('SIGKILL');
  const { status, stderr } = await zero!.ended;
  expect(status).toBe(1);
  // A reduction between updates failed, or the backward pass.
  expect(stderr).toMatch(/TorchBindError: (allReduce|fit) \(rank 0 of 2\): .*127\.0\.0\.1[^]*ERR_TORCHBIND_RANK_LOST/);
  await one!.ended;
});

it('a rank that does not come is given up after the timeout', async () => {
  const [zero, one] = await startRanks([{ part: 'slow' }, { part: 'slow' }], ['1500']);
  const { said } = await zero!.ended;
  const failure = said[0] as Failure;
  expect(failure).toMatchObject({ code: 'ERR_TORCHBIND_DISTRIBUTED_TIMEOUT' });
  expect(failure.milliseconds).toBeGreaterThanOrEqual(1400);
  await one!.ended;
});

it('debug mode turns calls that do not match into errors, off the event loop', async () => {
  const env = { TORCH_DISTRIBUTED_DEBUG: 'DETAIL' };
  const ranks = await startRanks([
    { part: 'mismatch', env },
    { part: 'mismatch', env },
  ]);
  for (const { ended } of ranks) {
    const { status, said } = await ended;
    expect(status).toBe(0);
    expect(said[0]).toMatchObject({ good: [2, 2], code: 'ERR_TORCHBIND_DISTRIBUTED_MISMATCH' });
    expect((said[0] as { beats: number }).beats).toBeGreaterThan(3);
  }
});

it('an error that ends a rank is written where torchrun looks', async () => {
  const file = path.join(temporaryDirectory(), 'error.json');
  const ranks = await startRanks([{ part: 'throws', env: { TORCHELASTIC_ERROR_FILE: file } }, { part: 'throws' }]);
  for (const { ended } of ranks) expect((await ended).status).toBe(1);
  const { message } = JSON.parse(readFileSync(file, 'utf8')) as { message: { message: string } };
  expect(message.message).toBe('the data is not there');
});

it.runIf(process.platform === 'linux')('an addon without process groups works, and says what is missing', async () => {
  // TORCHBIND_PREBUILD names where node-gyp-build looks for the addon.
  const addonWith = (change: (library: string) => void): string => {
    const directory = temporaryDirectory();
    const built = path.join(directory, 'build/Release');
    cpSync(path.join(repositoryRoot, 'build/Release'), built, { recursive: true });
    change(path.join(built, 'torchbind_distributed.so'));
    return directory;
  };
  const addons = [
    // It asks for names that no libtorch has, as it does where libtorch was built without gloo.
    addonWith((library) => {
      const bytes = readFileSync(library, 'latin1');
      expect(bytes).toContain('ProcessGroupGloo');
      writeFileSync(library, bytes.replaceAll('ProcessGroupGloo', 'ProcessGroupNone'), 'latin1');
    }),
    addonWith((library) => rmSync(library)),
  ];
  const found = await Promise.all(
    addons.map((directory) => runRanks([{ part: 'withoutGroups', env: { TORCHBIND_PREBUILD: directory } }])),
  );
  const [undefinedName, missing] = found.map(([said]) => said![0]);
  const code = 'ERR_TORCHBIND_UNSUPPORTED';
  const ofLibtorch = /built without c10d or without gloo.*undefined symbol: \w*ProcessGroupNone/s;
  expect(undefinedName).toMatchObject({ sum: 2, code, message: expect.stringMatching(ofLibtorch) as string });
  expect(missing).toMatchObject({
    sum: 2,
    code,
    message: expect.stringMatching(/torchbind_distributed\.so is missing/) as string,
  });
});

it('says what to do where a rank cannot join', async () => {
  const [[said]] = (await runRanks([{ part: 'unreachable' }])) as [[Record<string, Failure>]];
  expect(said.nobody).toMatchObject({
    code: 'ERR_TORCHBIND_DISTRIBUTED_TIMEOUT',
    message: expect.stringMatching(/Nothing answers at that address.*MASTER_PORT/s) as string,
  });
  expect(said.taken).toMatchObject({
    code: 'ERR_TORCHBIND_DISTRIBUTED',
    message: expect.stringMatching(/Another program listens on MASTER_PORT/) as string,
  });
  expect(said.unknown).toMatchObject({
    code: 'ERR_TORCHBIND_DISTRIBUTED',
    message: expect.stringMatching(/nope0.*GLOO_SOCKET_IFNAME/s) as string,
  });
  if (said.nccl === undefined) return; // this machine has a GPU
  expect(said.nccl).toMatchObject({
    code: 'ERR_TORCHBIND_DEVICE',
    message: expect.stringMatching(/^initProcessGroup: .*no CUDA device/) as string,
  });
});
