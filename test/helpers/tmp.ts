import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, onTestFinished } from 'vitest';

/** A new directory for one test, removed when that test ends. */
export function temporaryDirectory(): string {
  const directory = create();
  onTestFinished(() => remove(directory));
  return directory;
}

/** A new directory for a whole file or `describe` block: call it where tests are collected, not in a test. */
export function sharedTemporaryDirectory(): string {
  const directory = create();
  afterAll(() => remove(directory));
  return directory;
}

function create(): string {
  return mkdtempSync(path.join(tmpdir(), 'torchbind-test-'));
}

function remove(directory: string): void {
  rmSync(directory, { recursive: true, force: true });
}
