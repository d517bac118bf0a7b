import { execFileSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { maxSmallFile, readSmallFile } from '../../lib/formats/files/small-file';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const file = path.join(sharedTemporaryDirectory(), 'config.json');

it('gives the bytes of a file, also of an empty one', async () => {
  writeFileSync(file, '{}');
  expect((await readSmallFile(file)).toString()).toBe('{}');
  writeFileSync(file, '');
  expect(await readSmallFile(file)).toHaveLength(0);
});

it('refuses what is too large before it is read, with both sizes', async () => {
  writeFileSync(file, '');
  truncateSync(file, 2 ** 40);
  await expect(readSmallFile(file)).rejects.toMatchObject({
    code: 'ERR_TORCHBIND_CHECKPOINT_LIMIT',
    message: new RegExp(`config.json has ${2 ** 40} bytes; at most ${maxSmallFile} are read`),
  });
});

it('refuses directories, what is not there, and pipes that never end', async () => {
  for (const place of [path.dirname(file), `${file}.none`])
    await expect(readSmallFile(place)).rejects.toMatchObject({ code: 'ERR_TORCHBIND_CHECKPOINT_OPEN' });
  const pipe = `${file}.pipe`;
  execFileSync('mkfifo', [pipe]);
  await expect(readSmallFile(pipe)).rejects.toMatchObject({ code: 'ERR_TORCHBIND_CHECKPOINT_OPEN' });
});
