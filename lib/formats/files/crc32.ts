/** CRC-32 of two byte strings in a row from the CRC-32 of each, after zlib's `crc32_combine`: vectors over GF(2). */

/** The reversed polynomial of CRC-32. */
const polynomial = 0xedb88320;

/** @param secondLength bytes that `second` is the checksum of */
export function combineCrc32(first: number, second: number, secondLength: number): number {
  let crc = first;
  let length = secondLength;
  // The operator that appends one zero byte, then two, four, eight ... zero bytes.
  for (let operator = square(square(square(oneZeroBit()))); length > 0; operator = square(operator)) {
    if (length % 2 === 1) crc = apply(operator, crc);
    length = Math.floor(length / 2);
  }
  return (crc ^ second) >>> 0;
}

function oneZeroBit(): Uint32Array {
  return Uint32Array.from({ length: 32 }, (_, bit) => (bit === 0 ? polynomial : 1 << (bit - 1)));
}

function apply(matrix: Uint32Array, vector: number): number {
  let sum = 0;
  for (let bit = 0, rest = vector >>> 0; rest !== 0; bit++, rest >>>= 1) {
    if (rest & 1) sum ^= matrix[bit]!;
  }
  return sum;
}

function square(matrix: Uint32Array): Uint32Array {
  return matrix.map((column) => apply(matrix, column));
}
