/** Q8_0 of llama.cpp: 32 numbers as one float16 scale and 32 integers of 8 bits. */

export const blockSize = 32;
export const blockBytes = 34;

/**
 * Rounds numbers to Q8_0, bit for bit as llama.cpp's reference and Python's `gguf` package do.
 *
 * @param numbers a multiple of 32 of them
 */
export function quantizeQ8(numbers: Float32Array): Uint8Array {
  const blocks = numbers.length / blockSize;
  const bytes = new Uint8Array(blocks * blockBytes);
  const view = new DataView(bytes.buffer);
  for (let block = 0; block < blocks; block++) {
    const first = block * blockSize;
    let most = 0;
    for (let i = first; i < first + blockSize; i++) most = Math.max(most, Math.abs(numbers[i]!));
    const scale = Math.fround(most / 127);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    const at = block * blockBytes;
    view.setUint16(at, toHalf(scale), true);
    for (let i = 0; i < blockSize; i++) view.setInt8(at + 2 + i, roundAway(Math.fround(numbers[first + i]! * inverse)));
  }
  return bytes;
}

/** The numbers that Q8_0 stands for. */
export function dequantizeQ8(bytes: Uint8Array): Float32Array {
  const into = new Float32Array((bytes.length / blockBytes) * blockSize);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let block = 0; block < into.length / blockSize; block++) {
    const at = block * blockBytes;
    const scale = fromHalf(view.getUint16(at, true));
    for (let i = 0; i < blockSize; i++) into[block * blockSize + i] = view.getInt8(at + 2 + i) * scale;
  }
  return into;
}

/** Half a step goes away from 0, as C's roundf has it. */
function roundAway(x: number): number {
  const whole = Math.floor(Math.abs(x));
  return Math.sign(x) * (whole + (Math.abs(x) - whole >= 0.5 ? 1 : 0));
}

/** The bits of the nearest float16; of two that are equally near, the even one. */
function toHalf(x: number): number {
  if (Number.isNaN(x)) return 0x7e00;
  // Below 2^-14 the steps are 2^-24; above, 2^-10 of the power of two.
  const power = Math.max(-14, Math.floor(Math.log2(x)));
  const steps = roundToEven(x / 2 ** (power - 10));
  // A mantissa that overflows counts the exponent up by itself.
  const bits = x === 0 ? 0 : steps + (power + 14) * 1024;
  return Math.min(bits, 0x7c00);
}

function roundToEven(x: number): number {
  const whole = Math.floor(x);
  const rest = x - whole;
  return rest > 0.5 || (rest === 0.5 && whole % 2 === 1) ? whole + 1 : whole;
}

function fromHalf(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 1023;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 31) return mantissa === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * 2 ** (exponent - 25));
}
