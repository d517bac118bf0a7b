import { readdirSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { save } from '../../lib/formats/pt';
import { saveSafetensors } from '../../lib/formats/safetensors';
import { tensor } from '../../lib/tensor/creation';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const directory = sharedTemporaryDirectory();

afterEach(() => vi.restoreAllMocks());

/** Counts the syncs of files and directories. */
async function countSyncs(): Promise<() => number> {
  const handle = await open(directory, 'r');
  const sync = vi.spyOn(Object.getPrototypeOf(handle) as typeof handle, 'sync');
  await handle.close();
  return () => sync.mock.calls.length;
}

it.each([
  ['save', 'written.pt', save],
  ['saveSafetensors', 'written.safetensors', saveSafetensors],
] as const)('%s writes the same file without waiting for the disk', async (_, name, write) => {
  const value = new Map([['weight', tensor([1.5, 2.5])]]);
  const syncs = await countSyncs();
  const file = path.join(directory, name);
  await write(value, file, { durable: false });
  expect(syncs()).toBe(0);
  const quick = readFileSync(file);
  await write(value, file);
  expect(syncs()).toBe(2);
  expect(readFileSync(file).equals(quick)).toBe(true);
  expect(readdirSync(directory).filter((entry) => entry.endsWith('.tmp'))).toEqual([]);
  value.get('weight')!.dispose();
});
