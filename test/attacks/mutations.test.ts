/** Files damaged and mutated by the thousand. The long run is `npm run hostile -- --files 1000000`. */
import path from 'node:path';
import { expect, it } from 'vitest';
import { memory } from '../../lib/tensor/scope';
import { sharedTemporaryDirectory } from '../helpers/tmp';
import { runBitFlips, runMutations, runParses, runTruncations } from './campaign';

const file = path.join(sharedTemporaryDirectory(), 'mutated.pt');

it('5,000 mutated files: one class of errors, no hang, bounded memory, no tensor left', async () => {
  const before = memory();
  const figures = await runMutations(file, 1, 5000);
  expect(figures.untyped).toEqual([]);
  expect(figures.slow).toEqual([]);
  expect(figures.growthMb).toBeLessThan(64);
  // Both ends are reached: what says nothing may change, and most changes are found.
  expect(figures.loaded).toBeGreaterThan(50);
  expect(figures.refused).toBeGreaterThan(2500);
  expect(memory()).toEqual(before);
}, 120_000);

it('1,000 of them from memory, to the parsers and to inspect: one class of errors', async () => {
  const { untyped, slow, loaded, refused } = await runParses(1, 1000);
  expect([untyped, slow]).toEqual([[], []]);
  expect(loaded).toBeGreaterThan(10);
  expect(refused).toBeGreaterThan(500);
}, 120_000);

it('files cut at every byte are typed errors', async () => {
  const { files, typed } = await runTruncations(file);
  expect(typed).toBe(files);
}, 120_000);

it('no flipped bit of a zip checkpoint loads as another value', async () => {
  const { different, refused } = await runBitFlips(file);
  expect(different).toBe(0);
  expect(refused).toBeGreaterThan(0);
}, 120_000);
