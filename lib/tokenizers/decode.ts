import { checkIterable, describe, TorchBindError } from '../errors';
import type { StreamDecoder } from './tokenizer';

const replacementCharacter = new TextEncoder().encode('\u{fffd}');

/** Decodes ids through the bytes of each. `bytes[id]` is undefined past the vocabulary. */
export class ByteDecoder implements StreamDecoder {
  private readonly utf8 = new TextDecoder('utf-8', { ignoreBOM: true });

  constructor(private readonly bytes: readonly Uint8Array[]) {}

  push(id: number): string {
    checkId(id);
    return this.utf8.decode(this.bytes[id] ?? replacementCharacter, { stream: true });
  }

  end(): string {
    return this.utf8.decode();
  }
}

/** Decodes all ids at once. */
export function decodeAll(decoder: StreamDecoder, ids: ArrayLike<number>): string {
  checkIterable(ids, 'an array of token ids', 'decode()');
  const pieces: string[] = [];
  for (let i = 0; i < ids.length; i++) pieces.push(decoder.push(ids[i]!));
  pieces.push(decoder.end());
  return pieces.join('');
}

export function checkId(id: number): void {
  if (Number.isInteger(id) && id >= 0) return;
  throw new TorchBindError(
    `decode: a token id must be an integer of at least 0, got ${describe(id)}`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}
