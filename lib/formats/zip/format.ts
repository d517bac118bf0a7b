/** Constants of the zip format (APPNOTE 6.3) that the reader and the writer share. */

export const Signature = {
  local: 0x04034b50,
  descriptor: 0x08074b50,
  central: 0x02014b50,
  zip64End: 0x06064b50,
  zip64Locator: 0x07064b50,
  end: 0x06054b50,
} as const;

export const uint32Max = 0xffffffff;

/** Id of the extra field with the 64-bit sizes and offset. */
export const zip64ExtraId = 0x0001;

/** Whether a file that begins so is a zip with something in it. */
export function isZip(head: Buffer): boolean {
  return head.length >= 4 && head.readUInt32LE(0) === Signature.local;
}
