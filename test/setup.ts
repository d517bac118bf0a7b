/**
 * Every test leaves as many tensors as it found: those of fixtures made in `beforeAll` or where tests are collected.
 *
 * A test runs in a scope of its own, which frees what it made. Modules and optimizers live outside scopes by contract:
 * where a test does not dispose them the garbage collector must be able to, or something holds them, which is a leak.
 * What library functions leave to the collector is counted without it, in test/tensor/leaves-nothing.test.ts.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { aroundEach } from 'vitest';
import { isLoaded } from '../lib/native/native';
import { memory, tidy } from '../lib/tensor/scope';
import { memoryInUse } from './helpers/garbage';

type Memory = ReturnType<typeof memory>;

const NOTHING: Memory = { numTensors: 0, numBytes: 0 };

// Tests that need no tensors shall not wait for libtorch to load.
const inUse = (): Memory => (isLoaded() ? memory() : NOTHING);

const isMore = (a: Memory, b: Memory): boolean => a.numTensors > b.numTensors || a.numBytes > b.numBytes;

/** What is left once the collector had its chance: V8's compiler threads may hold objects for a moment. */
async function leftOver(before: Memory): Promise<Memory> {
  const deadline = performance.now() + 5000;
  let after = inUse();
  while (isMore(after, before) && performance.now() < deadline) {
    after = await memoryInUse();
    if (isMore(after, before)) await sleep(50);
  }
  return after;
}

aroundEach(async (runTest, { task }) => {
  const before = inUse();
  await tidy(() => runTest());
  if (task.result?.state === 'fail') return;
  const after = await leftOver(before);
  if (!isMore(after, before)) return;
  throw new Error(
    `This test leaves ${after.numTensors - before.numTensors} tensors and ${after.numBytes - before.numBytes} bytes alive. ` +
      'Something still refers to them: a cache, a variable outside the test, a native table. Dispose what the test ' +
      'keeps; make what several tests share in beforeAll().',
  );
});
