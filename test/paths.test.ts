/** Paths as `file:` URLs, wherever a path is taken. */
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, test } from 'vitest';
import {
  CheckpointManager,
  compare,
  convertAllLegacy,
  convertLegacy,
  findCheckpoints,
  GPT,
  inspect,
  load,
  loadSafetensors,
  loadTokenizer,
  resolveCheckpoint,
  save,
  saveSafetensors,
  TokenFile,
  writeTokens,
} from '../lib';
import { toPath } from '../lib/errors';
import { ones } from '../lib/tensor/creation';
import { temporaryDirectory } from './helpers/tmp';

const config = { vocabSize: 5, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 4 };

test('file: URLs are paths', async () => {
  const directory = temporaryDirectory();
  const url = (name: string): URL => pathToFileURL(path.join(directory, name));
  const tensors = new Map([['a b', ones([2])]]);
  await save(tensors, url('a b.pt'));
  expect(await load(url('a b.pt'))).toBeInstanceOf(Map);
  await saveSafetensors(tensors, url('a.safetensors'));
  expect([...(await loadSafetensors(url('a.safetensors'))).keys()]).toEqual(['a b']);
  expect((await inspect(url('a b.pt'))).tensors).toHaveLength(1);
  expect((await compare(url('a b.pt'), url('a b.pt'))).totals.equal).toBe(true);
  expect(await writeTokens(url('train.bin'), [1, 2])).toBe(2);
  expect(TokenFile.open(url('train.bin')).length).toBe(2);

  const model = new GPT(config);
  await model.save(url('root/m'));
  const opened = await GPT.load(url('root/m'));
  expect(opened.origin!.path).toBe(path.join(directory, 'root', 'm'));
  await opened.saveCheckpointBundle(url('root/m'), { step: 1 });
  const manager = new CheckpointManager('m', { root: url('root') });
  expect(manager.checkpointDir).toBe(path.join(directory, 'root', 'm'));
  expect((await CheckpointManager.loadForInference('m', { root: url('root') })).step).toBe(1);
  expect(await loadTokenizer(url('root/m'))).toBeNull();
  const single = await model.saveCheckpointFile(url('files'), { source: 'd', step: 1 });
  expect(await findCheckpoints(url('files'))).toHaveLength(1);
  expect(await resolveCheckpoint(url('files/*.pt'))).toBe(single);
  expect((await convertLegacy(pathToFileURL(single), { to: url('converted') })).written).toBe(true);
  expect(await convertAllLegacy(url('root'))).toEqual([]);
});

test('other URLs are refused by name', async () => {
  const refused = { code: 'ERR_TORCHBIND_INVALID_ARGUMENT' };
  await expect(GPT.load(new URL('https://example.com/model.pt'))).rejects.toMatchObject({
    ...refused,
    message: expect.stringMatching(
      /^GPT\.load: expected a path or a file: URL, got the URL https:\/\/example\.com\/model\.pt.*Download/,
    ) as unknown,
  });
  await expect(load(new URL('data:,x'))).rejects.toMatchObject(refused);
  expect(() => toPath(new URL('file:///a%00b'), 'f')).toThrow(/a path or a file: URL/);
  expect(() => toPath(7, 'f')).toThrow('f: expected a path or a file: URL, got number 7.');
});
