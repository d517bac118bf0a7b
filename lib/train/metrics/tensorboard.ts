import { appendFileSync } from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';
import type { MetricsLine } from './line';

/** Where TensorBoard shows a value: tags before the slash make groups. */
const tags: readonly [keyof MetricsLine, string][] = [
  ['loss', 'loss/batch'],
  ['train_loss', 'loss/train'],
  ['val_loss', 'loss/validation'],
  ['learning_rate', 'optimizer/learning_rate'],
  ['grad_norm', 'optimizer/grad_norm'],
  ['tokens_per_second', 'speed/tokens_per_second'],
  ['memory', 'memory/resident_bytes'],
];

/**
 * A file of TensorBoard's event format: records of TFRecord, each a protocol buffer of the message `Event`
 * (tensorflow/core/util/event.proto).
 */
export class EventFile {
  private readonly file: string;
  private records: Buffer[] = [];

  /** @param step of the run: TensorBoard drops what it knows of later ones */
  constructor(directory: string, step: number) {
    const seconds = Math.floor(Date.now() / 1000);
    this.file = path.join(directory, `events.out.tfevents.${seconds}.${hostname()}.${process.pid}`);
    this.record(Date.now() / 1000, 0, bytesField(3, Buffer.from('brain.Event:2')));
    const sessionStart = varintField(1, 1);
    this.record(Date.now() / 1000, step + 1, bytesField(7, sessionStart));
    this.flush();
  }

  add(line: MetricsLine): void {
    const values = tags.flatMap(([name, tag]) => {
      const value = line[name];
      return typeof value === 'number' ? [bytesField(1, scalar(tag, value))] : [];
    });
    this.record(line.time, line.step, bytesField(5, Buffer.concat(values)));
  }

  flush(): void {
    if (this.records.length > 0) appendFileSync(this.file, Buffer.concat(this.records));
    this.records = [];
  }

  private record(time: number, step: number, content: Buffer): void {
    const wallTime = Buffer.alloc(9);
    wallTime[0] = (1 << 3) | 1;
    wallTime.writeDoubleLE(time, 1);
    const event = Buffer.concat([wallTime, varintField(2, step), content]);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(event.length));
    this.records.push(length, maskedCrc(length), event, maskedCrc(event));
  }
}

/** `Summary.Value` with `tag` and `simple_value`. */
function scalar(tag: string, value: number): Buffer {
  const number = Buffer.alloc(5);
  number[0] = (2 << 3) | 5;
  number.writeFloatLE(value, 1);
  return Buffer.concat([bytesField(1, Buffer.from(tag)), number]);
}

function bytesField(field: number, bytes: Buffer): Buffer {
  return Buffer.concat([varint((field << 3) | 2), varint(bytes.length), bytes]);
}

function varintField(field: number, value: number): Buffer {
  return Buffer.concat([varint(field << 3), varint(value)]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 128) {
    bytes.push((rest % 128) | 128);
    rest = Math.floor(rest / 128);
  }
  return Buffer.from([...bytes, rest]);
}

/** CRC-32C, rotated and shifted as TFRecord wants it. */
function maskedCrc(bytes: Buffer): Buffer {
  const crc = crc32c(bytes);
  const masked = (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
  const result = Buffer.alloc(4);
  result.writeUInt32LE(masked);
  return result;
}

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  return value >>> 0;
});

function crc32c(bytes: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ table[(crc ^ byte) & 255]!;
  return (crc ^ 0xffffffff) >>> 0;
}
