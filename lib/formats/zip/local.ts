/** What stands before and behind the bytes of a record, which must say what the directory says. */
import type { CheckpointError } from '../../errors';
import { broken, type CentralEntry, flagDescriptor, type ZipDirectory, zip64Values } from './directory';
import { Signature } from './format';

export const localHeaderSize = 30;

/** Extra fields are as long as this in what PyTorch writes: padding to 64 bytes and Zip64's 28. */
export const usualExtra = 96;

/** A data descriptor with its signature, in 64 bits. */
export const descriptorSize = 24;

/** Bytes of the name and the extra fields that follow a local header. */
export function variableLength(header: Buffer, { name, headerOffset }: CentralEntry): number {
  if (header.readUInt32LE(0) !== Signature.local) throw broken(`record '${name}' has no local header`, headerOffset);
  return header.readUInt16LE(26) + header.readUInt16LE(28);
}

/** @param variable the name and the extra fields */
export function checkLocal(directory: ZipDirectory, entry: CentralEntry, header: Buffer, variable: Buffer): void {
  if (header.readUInt16LE(6) !== entry.flags || header.readUInt16LE(8) !== entry.method)
    throw disagree(entry, 'flags or compression');
  const nameLength = header.readUInt16LE(26);
  if (!directory.hasName(entry, variable, nameLength)) throw disagree(entry, 'name');
  const [crc, compressedSize, size] = [header.readUInt32LE(14), header.readUInt32LE(18), header.readUInt32LE(22)];
  const isDeferred = hasDescriptor(entry) && crc === 0 && compressedSize === 0 && size === 0;
  if (isDeferred) return;
  const local = zip64Values(variable.subarray(nameLength), { size, compressedSize }, entry.headerOffset);
  if (crc !== entry.crc32 || local.size !== entry.size || local.compressedSize !== entry.compressedSize)
    throw disagree(entry, 'size or checksum');
}

export function hasDescriptor({ flags }: CentralEntry): boolean {
  return (flags & flagDescriptor) !== 0;
}

/** The descriptor behind a record's bytes repeats checksum and sizes, in 32 or 64 bits, with or without a signature. */
export function descriptorLength(bytes: Buffer, entry: CentralEntry): number {
  for (const signed of [4, 0]) {
    if (signed === 4 && bytes.readUInt32LE(0) !== Signature.descriptor) continue;
    if (bytes.readUInt32LE(signed) !== entry.crc32) continue;
    for (const width of [4, 8]) {
      const read = (at: number): number => (width === 4 ? bytes.readUInt32LE(at) : Number(bytes.readBigUInt64LE(at)));
      if (read(signed + 4) === entry.compressedSize && read(signed + 4 + width) === entry.size)
        return signed + 4 + 2 * width;
    }
  }
  throw disagree(entry, 'data descriptor');
}

function disagree(entry: CentralEntry, what: string): CheckpointError {
  return broken(`record '${entry.name}': the directory and the local header disagree (${what})`, entry.headerOffset);
}
