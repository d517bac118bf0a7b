import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'vitest';
import { CheckpointError } from '../../lib/errors';
import { load } from '../../lib/formats/pt';
import { loadSafetensors } from '../../lib/formats/safetensors';
import { memory } from '../../lib/tensor/scope';
import { sharedTemporaryDirectory } from '../helpers/tmp';

/** What a case must be refused with. */
export interface Refusal {
  code?: RegExp;
  message?: RegExp | string;
  record?: string;
}

type Loader = (file: string, options: { mmap: boolean }) => Promise<unknown>;

/** Writes hostile files into a directory of the test file, and opens them both ways. */
export function attacks(): {
  open: (content: Uint8Array, mmap?: boolean) => Promise<unknown>;
  refused: (content: Uint8Array, expected?: Refusal) => Promise<void>;
  refusedAsSafetensors: (content: Uint8Array, expected?: Refusal) => Promise<void>;
  file: string;
} {
  const directory = sharedTemporaryDirectory();
  const file = path.join(directory, 'case.pt');

  async function refusedBy(loader: Loader, content: Uint8Array, expected: Refusal): Promise<void> {
    writeFileSync(file, content);
    const before = memory();
    const [read, mapped] = await Promise.all(
      [false, true].map((mmap) => loader(file, { mmap }).catch((error: unknown) => error)),
    );
    // Without expect(): its report of a tensor has no end.
    for (const outcome of [read, mapped])
      if (!(outcome instanceof CheckpointError)) throw new Error(`expected a CheckpointError, got ${String(outcome)}`);
    const error = read as CheckpointError;
    expect((mapped as CheckpointError).code).toBe(error.code);
    expect(error.code).toMatch(expected.code ?? /^ERR_TORCHBIND_CHECKPOINT_/);
    if (expected.message !== undefined) expect(error.message).toMatch(expected.message);
    if (expected.record !== undefined) expect(error.record).toBe(expected.record);
    if (/PICKLE|GLOBAL/.test(error.code)) expect(error.offset ?? error.record, error.message).toBeDefined();
    // Nothing is made of a file that is refused.
    expect(memory()).toEqual(before);
  }

  return {
    file,
    open: (content, mmap = false) => {
      writeFileSync(file, content);
      return load(file, { mmap });
    },
    refused: (content, expected = {}) => refusedBy(load, content, expected),
    refusedAsSafetensors: (content, expected = {}) => refusedBy(loadSafetensors, content, expected),
  };
}
