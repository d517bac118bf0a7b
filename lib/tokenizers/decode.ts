import { checkIterable, describe, TorchBindError } from '../errors';
import type { StreamDecoder } from './tokenizer';

const replacementCharacter = new TextEncoder().encode('\u{fffd}');

/** Decodes ids through the bytes of each, which are undefined past the vocabulary. */
export class ByteDecoder implements StreamDecoder {
  private readonly utf8 = new TextDecoder('utf-8', { ignoreBOM: true });

  constructor(private readonly bytesOf: (id: number) => Uint8Array | undefined) {}

  push(id: number): string {
    checkId(id);
    return this.utf8.decode(this.bytesOf(id) ?? replacementCharacter, { stream: true });
  }

  end(): string {
    return this.utf8.decode();
  }
}

/** Decodes a complete sequence of ids. */
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

const printableCount = 188;

/**
 * The characters by which byte-level vocabularies write bytes: printable ones for themselves, the others by those from
 * U+0100 on.
 */
const byteOf: ReadonlyMap<string, number> = new Map(
  Array.from({ length: 256 }, (_, byte) => byte)
    .sort((a, b) => Number(isPrintable(b)) - Number(isPrintable(a)) || a - b)
    .map((byte, place) => [String.fromCharCode(isPrintable(byte) ? byte : 256 + place - printableCount), byte]),
);

/** How a byte-level vocabulary writes each byte. */
export const byteCharacters: readonly string[] = Array.from(byteOf).reduce<string[]>((all, [char, byte]) => {
  all[byte] = char;
  return all;
}, []);

function isPrintable(byte: number): boolean {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/** The bytes that a token of a byte-level vocabulary stands for; its own in UTF-8 where it is not written that way. */
export function tokenBytes(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = byteOf.get(token[i]!);
    if (byte === undefined) return Buffer.from(token);
    bytes[i] = byte;
  }
  return bytes;
}
