/**
 * What is at a path that is saved to: modes and owners, symbolic links, FIFOs, devices and sockets. All of it is made in temporary
 * directories.
 */
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { describe, expect, it, onTestFinished } from 'vitest';
import { compare } from '../../lib/checkpoint';
import { save } from '../../lib/formats/pt';
import { saveSafetensors } from '../../lib/formats/safetensors';
import { GPT } from '../../lib/gpt';
import { applyLora } from '../../lib/models';
import { AdamW } from '../../lib/optim';
import { tensor } from '../../lib/tensor/creation';
import { manualSeed } from '../../lib/tensor/random';
import type { Tensor } from '../../lib/tensor/tensor';
import { CharTokenizer } from '../../lib/tokenizers';
import { temporaryDirectory } from '../helpers/tmp';

const text = 'abc'.repeat(40);
const isRoot = process.getuid?.() === 0;
const other = { uid: 12345, gid: 12346 };

function makeGpt(layout = 'mypt', tokenizer: CharTokenizer | null = new CharTokenizer(['a', 'b', 'c'])): GPT {
  manualSeed(1);
  const model = new GPT(
    { vocabSize: 3, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 4, device: 'cpu' },
    { layout, tokenizer },
  );
  onTestFinished(() => model.dispose());
  return model;
}

/** Permission bits and, where a test can change it, the owner. */
function ownerOf(file: string): unknown {
  const { mode, uid, gid } = statSync(file);
  return { mode: (mode & 0o7777).toString(8), ...(isRoot ? { uid, gid } : {}) };
}

function setOwner(file: string, mode: number): unknown {
  if (isRoot) chownSync(file, other.uid, other.gid);
  chmodSync(file, mode);
  return ownerOf(file);
}

const values = (): Map<string, Tensor> => new Map([['a', tensor([1, 2])]]);

/** What writes one file. */
const writers: [name: string, write: (file: string) => Promise<void>][] = [
  ['x.pt', (file) => save(values(), file)],
  ['x.safetensors', async (file) => void (await saveSafetensors(values(), file))],
  ['ckpt.pt', (file) => makeGpt('nanogpt', null).save(file)],
];

describe.skipIf(process.platform === 'win32').each(writers)('%s', (name, write) => {
  it('keeps mode and owner of a file that it replaces', async () => {
    const file = path.join(temporaryDirectory(), name);
    await write(file);
    for (const mode of [0o600, 0o640, 0o664, 0o444]) {
      const before = setOwner(file, mode);
      await write(file);
      expect(ownerOf(file)).toEqual(before);
    }
  });

  it('goes through links, dangling ones too, which stay', async () => {
    const [directory, elsewhere] = [temporaryDirectory(), temporaryDirectory()];
    const [link, second] = [path.join(directory, name), path.join(directory, 'second')];
    symlinkSync('second', link);
    symlinkSync(path.join(elsewhere, 'real'), second);
    for (const state of ['dangling', 'there']) {
      await write(link);
      expect([state, lstatSync(link).isSymbolicLink(), lstatSync(second).isSymbolicLink()]).toEqual([
        state,
        true,
        true,
      ]);
      expect(lstatSync(path.join(elsewhere, 'real')).isFile()).toBe(true);
    }
    expect([readdirSync(directory).sort(), readdirSync(elsewhere)]).toEqual([[name, 'second'].sort(), ['real']]);
  });

  it('refuses links that lead in a circle', async () => {
    const link = path.join(temporaryDirectory(), name);
    symlinkSync(name, link);
    await expect(write(link)).rejects.toMatchObject({ code: 'ERR_TORCHBIND_SAVE' });
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
  });

  it('writes into a FIFO what it writes into a file', async () => {
    const directory = temporaryDirectory();
    const [file, pipe] = [path.join(directory, 'file'), path.join(directory, name)];
    execFileSync('mkfifo', [pipe]);
    const reader = spawn('cat', [pipe]);
    const [got] = await Promise.all([buffer(reader.stdout), write(pipe)]);
    expect(lstatSync(pipe).isFIFO()).toBe(true);
    await write(file);
    if (name === 'x.safetensors') return expect(got.equals(readFileSync(file))).toBe(true);
    // Records of .pt files begin with the name of the file, and their alignment follows from it.
    writeFileSync(path.join(directory, 'got'), got);
    expect((await compare(path.join(directory, 'got'), file)).totals.equal).toBe(true);
  });

  it('refuses a socket, which stays', async () => {
    const socket = path.join(temporaryDirectory(), name);
    const server = createServer().listen(socket);
    await new Promise((resolve) => server.once('listening', resolve));
    await expect(write(socket)).rejects.toMatchObject({ code: 'ERR_TORCHBIND_SAVE' });
    expect(lstatSync(socket).isSocket()).toBe(true);
    await new Promise((resolve) => server.close(resolve));
  });

  it.runIf(isRoot)('writes into devices, and tells of one that is full', async () => {
    const directory = temporaryDirectory();
    const [sink, full] = ['sink', 'full'].map((device) => path.join(directory, `${device}-${name}`)) as [
      string,
      string,
    ];
    execFileSync('mknod', [sink, 'c', '1', '3']);
    execFileSync('mknod', [full, 'c', '1', '7']);
    await write(sink);
    await expect(write(full)).rejects.toMatchObject({ code: 'ERR_TORCHBIND_SAVE', message: /ENOSPC|no space/ });
    for (const device of [sink, full]) expect(lstatSync(device).isCharacterDevice()).toBe(true);
  });
});

describe.skipIf(process.platform === 'win32')('a model of several files', () => {
  it.each(['hf-gpt2', 'shards', 'adapter', 'checkpoint of Trainer'])(
    'of %s keeps their modes and owners',
    async (kind) => {
      const place = path.join(temporaryDirectory(), 'model');
      const model = makeGpt('hf-gpt2');
      if (kind === 'adapter') applyLora(model, { rank: 2, alpha: 4 });
      const write = async (): Promise<void> => {
        if (kind === 'shards')
          await saveSafetensors(model.stateDict(), path.join(place, 'x.safetensors'), {
            maxShardSize: 400,
            tied: 'drop',
          });
        else await model.save(place, kind === 'checkpoint of Trainer' ? { optimizer: null } : {});
      };
      mkdirSync(place);
      await write();
      if (kind === 'checkpoint of Trainer') writeFileSync(path.join(place, 'trainer_state.json'), '{}');
      const names = readdirSync(place);
      expect(names.length).toBeGreaterThan(1);
      setOwner(place, 0o700);
      const before = names.map((name) => [name, setOwner(path.join(place, name), 0o640)]);
      await write();
      const after = names
        .filter((name) => name !== 'trainer_state.json')
        .map((name) => [name, ownerOf(path.join(place, name))]);
      expect(after).toEqual(before.filter(([name]) => name !== 'trainer_state.json'));
      expect(statSync(place).mode & 0o777).toBe(0o700);
    },
  );
});

describe.skipIf(process.platform === 'win32')('a bundle', () => {
  async function trained(directory: string): Promise<(step: number) => Promise<void>> {
    const model = makeGpt();
    const optimizer = new AdamW(model.parameters());
    const saveStep = (step: number): Promise<void> => model.saveCheckpointBundle(directory, { step, optimizer });
    await saveStep(1);
    return saveStep;
  }

  it('keeps modes and owners, under steps/ too', async () => {
    const directory = temporaryDirectory();
    const saveStep = await trained(directory);
    const names = readdirSync(path.join(directory, 'steps/00000001'));
    setOwner(directory, 0o750);
    const before = names.map((name) => [name, setOwner(path.join(directory, name), 0o440)]);
    await saveStep(2);
    for (const place of [directory, path.join(directory, 'steps/00000002')])
      expect(names.map((name) => [name, ownerOf(path.join(place, name))])).toEqual(before);
    expect(ownerOf(path.join(directory, 'steps/00000002'))).toEqual(ownerOf(directory));
    // What another program left is as private in `replaced/` as it was.
    chmodSync(path.join(directory, 'model.pt'), 0o600);
    writeFileSync(path.join(directory, 'model.pt'), 'not whole');
    await saveStep(3);
    expect(statSync(path.join(directory, 'replaced/00000001/model.pt')).mode & 0o777).toBe(0o600);
    expect(statSync(path.join(directory, 'replaced/00000001')).mode & 0o777).toBe(0o750);
  });

  it('keeps the modes of a bundle whose optimizer retention takes away', async () => {
    const directory = temporaryDirectory();
    const model = makeGpt();
    const optimizer = new AdamW(model.parameters());
    const keep = { last: 2, optimizerLast: 1 };
    await model.saveCheckpointBundle(directory, { step: 1, optimizer, keep });
    const manifest = path.join(directory, 'steps/00000001/manifest.json');
    const before = setOwner(manifest, 0o600);
    await model.saveCheckpointBundle(directory, { step: 2, optimizer, keep });
    expect(readdirSync(path.dirname(manifest))).not.toContain('optimizer.pt');
    expect(ownerOf(manifest)).toEqual(before);
  });

  it('goes through links at its files', async () => {
    const [directory, elsewhere] = [temporaryDirectory(), temporaryDirectory()];
    const links = ['model.pt', 'config.json', 'manifest.json'];
    for (const name of links) symlinkSync(path.join(elsewhere, name), path.join(directory, name));
    const saveStep = await trained(directory);
    for (const step of [1, 2]) {
      if (step === 2) await saveStep(2);
      expect((await GPT.load(directory)).step).toBe(step);
      for (const name of links) expect(lstatSync(path.join(directory, name)).isSymbolicLink()).toBe(true);
      expect(readdirSync(elsewhere).sort()).toEqual([...links].sort());
    }
  });

  it.each(['model.pt', 'training_state.json', 'manifest.json'])(
    'with a FIFO for %s is opened from steps/, and never saved to',
    async (name) => {
      const directory = temporaryDirectory();
      const saveStep = await trained(directory);
      const pipe = path.join(directory, name);
      execFileSync('rm', [pipe]);
      execFileSync('mkfifo', [pipe]);
      await expect(saveStep(2)).rejects.toMatchObject({ code: 'ERR_TORCHBIND_SAVE', message: /got a FIFO. Remove it/ });
      expect(lstatSync(pipe).isFIFO()).toBe(true);
      expect((await GPT.load(directory, { optimizer: true })).step).toBe(1);
    },
  );
});

describe.skipIf(process.platform === 'win32')('metrics', () => {
  const files = ['metrics.jsonl', 'metrics.html'];

  async function train(checkpointDir: string): Promise<string[]> {
    const warnings: string[] = [];
    const listen = ({ message }: Error): void => void warnings.push(message);
    process.on('warning', listen);
    await makeGpt().fit({ text, maxSteps: 3, batchSize: 2, evalInterval: 0, saveEvery: 3, checkpointDir });
    await new Promise((resolve) => setImmediate(resolve));
    process.off('warning', listen);
    return warnings;
  }

  it('keep modes and owners, and links stay', async () => {
    const [directory, elsewhere] = [temporaryDirectory(), temporaryDirectory()];
    for (const name of files) symlinkSync(path.join(elsewhere, name), path.join(directory, name));
    expect(await train(directory)).toEqual([]);
    const before = files.map((name) => setOwner(path.join(elsewhere, name), 0o600));
    expect(await train(directory)).toEqual([]);
    expect(files.map((name) => ownerOf(path.join(elsewhere, name)))).toEqual(before);
    for (const name of files) expect(lstatSync(path.join(directory, name)).isSymbolicLink()).toBe(true);
    expect(readdirSync(elsewhere).sort()).toEqual([...files].sort());
  });

  it('go into a FIFO that somebody reads, and training does not wait for one that nobody does', async () => {
    const directory = temporaryDirectory();
    const pipe = path.join(directory, 'metrics.jsonl');
    execFileSync('mkfifo', [pipe]);
    expect((await train(directory)).join()).toMatch(/metrics in .* cannot be written: ENXIO/);
    const reader = spawn('cat', [pipe]);
    const holder = spawn('sh', ['-c', `exec 3>"$1"; echo open; exec sleep 60`, 'sh', pipe]); // for appending is opening each time
    await new Promise((resolve) => holder.stdout.once('data', resolve));
    const got = buffer(reader.stdout);
    expect(await train(directory)).toEqual([]);
    holder.kill();
    const lines = (await got).toString().trim().split('\n');
    expect(lines.map((line) => (JSON.parse(line) as { step: number }).step)).toEqual([1, 2, 3]);
    expect(lstatSync(pipe).isFIFO()).toBe(true);
  });

  it.runIf(isRoot)('go into a device', async () => {
    const directory = temporaryDirectory();
    for (const name of files) execFileSync('mknod', [path.join(directory, name), 'c', '1', '3']);
    expect(await train(directory)).toEqual([]);
    for (const name of files) expect(lstatSync(path.join(directory, name)).isCharacterDevice()).toBe(true);
  });
});
