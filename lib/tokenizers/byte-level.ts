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
