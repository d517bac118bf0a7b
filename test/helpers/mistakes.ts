/** Typical mistakes, and exactly what torchbind says to them: what was expected, what came, what to do. */
import { describe, expect, test } from 'vitest';
import { CheckpointError, TorchBindError } from '../../lib/index';

/** What was done wrong, the code without `ERR_TORCHBIND_`, and the whole message. */
export type Mistake = [name: string, call: () => unknown, code: string, message: string];

/** Wrong values as TypeScript would not allow them. */
export const wrong = (value: unknown): never => value as never;

async function failure(call: () => unknown): Promise<Error & { code: string }> {
  try {
    await call();
  } catch (error) {
    return error as Error & { code: string };
  }
  throw new Error('nothing was thrown');
}

export function describeMistakes(mistakes: readonly Mistake[]): void {
  describe('mistakes are errors that teach', () => {
    test.each(mistakes)('%s', async (_, call, code, message) => {
      const error = await failure(call);
      expect(error).toBeInstanceOf(code.startsWith('CHECKPOINT') ? CheckpointError : TorchBindError);
      expect(error.message).toBe(message);
      expect(error.code).toBe(`ERR_TORCHBIND_${code}`);
      expect(error.stack).toContain('mistakes');
    });
  });
}
