/** Pickle opcodes of protocols 0 to 5, by the names that Python's pickletools gives them. */
export const Op = {
  MARK: 0x28,
  STOP: 0x2e,
  POP: 0x30,
  POP_MARK: 0x31,
  DUP: 0x32,
  FLOAT: 0x46,
  INT: 0x49,
  BININT: 0x4a,
  BININT1: 0x4b,
  LONG: 0x4c,
  BININT2: 0x4d,
  NONE: 0x4e,
  PERSID: 0x50,
  BINPERSID: 0x51,
  REDUCE: 0x52,
  STRING: 0x53,
  BINSTRING: 0x54,
  SHORT_BINSTRING: 0x55,
  UNICODE: 0x56,
  BINUNICODE: 0x58,
  APPEND: 0x61,
  BUILD: 0x62,
  GLOBAL: 0x63,
  DICT: 0x64,
  EMPTY_DICT: 0x7d,
  APPENDS: 0x65,
  GET: 0x67,
  BINGET: 0x68,
  INST: 0x69,
  LONG_BINGET: 0x6a,
  LIST: 0x6c,
  EMPTY_LIST: 0x5d,
  OBJ: 0x6f,
  PUT: 0x70,
  BINPUT: 0x71,
  LONG_BINPUT: 0x72,
  SETITEM: 0x73,
  TUPLE: 0x74,
  EMPTY_TUPLE: 0x29,
  SETITEMS: 0x75,
  BINFLOAT: 0x47,
  // protocol 2
  PROTO: 0x80,
  NEWOBJ: 0x81,
  EXT1: 0x82,
  EXT2: 0x83,
  EXT4: 0x84,
  TUPLE1: 0x85,
  TUPLE2: 0x86,
  TUPLE3: 0x87,
  NEWTRUE: 0x88,
  NEWFALSE: 0x89,
  LONG1: 0x8a,
  LONG4: 0x8b,
  // protocol 3
  BINBYTES: 0x42,
  SHORT_BINBYTES: 0x43,
  // protocol 4
  SHORT_BINUNICODE: 0x8c,
  BINUNICODE8: 0x8d,
  BINBYTES8: 0x8e,
  EMPTY_SET: 0x8f,
  ADDITEMS: 0x90,
  FROZENSET: 0x91,
  NEWOBJ_EX: 0x92,
  STACK_GLOBAL: 0x93,
  MEMOIZE: 0x94,
  FRAME: 0x95,
  // protocol 5
  BYTEARRAY8: 0x96,
  NEXT_BUFFER: 0x97,
  READONLY_BUFFER: 0x98,
} as const;

const names = new Map<number, string>(Object.entries(Op).map(([name, code]) => [code, name]));

/** `REDUCE`, or `0x7f` where no protocol has such an opcode. */
export function opName(code: number): string {
  return names.get(code) ?? `0x${code.toString(16).padStart(2, '0')}`;
}

/** Bytes of the argument behind an opcode. */
const fixed = byOpcode([
  [Op.BININT, 4],
  [Op.BININT1, 1],
  [Op.BININT2, 2],
  [Op.BINFLOAT, 8],
  [Op.BINGET, 1],
  [Op.LONG_BINGET, 4],
  [Op.BINPUT, 1],
  [Op.LONG_BINPUT, 4],
  [Op.PROTO, 1],
  [Op.EXT1, 1],
  [Op.EXT2, 2],
  [Op.EXT4, 4],
  [Op.FRAME, 8],
]);

/** For opcodes whose argument has a length prefix: the size of that prefix in bytes. */
const counted = byOpcode([
  [Op.BINSTRING, 4],
  [Op.SHORT_BINSTRING, 1],
  [Op.BINUNICODE, 4],
  [Op.SHORT_BINUNICODE, 1],
  [Op.BINUNICODE8, 8],
  [Op.BINBYTES, 4],
  [Op.SHORT_BINBYTES, 1],
  [Op.BINBYTES8, 8],
  [Op.BYTEARRAY8, 8],
  [Op.LONG1, 1],
  [Op.LONG4, 4],
]);

/** Lines of text behind an opcode. */
const lines = byOpcode([
  [Op.FLOAT, 1],
  [Op.INT, 1],
  [Op.LONG, 1],
  [Op.STRING, 1],
  [Op.UNICODE, 1],
  [Op.PERSID, 1],
  [Op.GET, 1],
  [Op.PUT, 1],
  [Op.GLOBAL, 2],
  [Op.INST, 2],
]);

function byOpcode(entries: readonly (readonly [op: number, value: number])[]): Uint8Array {
  const table = new Uint8Array(256);
  for (const [op, value] of entries) table[op] = value;
  return table;
}

/** Where the next opcode begins, perhaps beyond the bytes; undefined where they do not hold what tells it. */
export function nextOpcode(bytes: Buffer, at: number): number | undefined {
  const op = bytes[at]!;
  const length = counted[op]!;
  if (length > 0) {
    if (at + 1 + length > bytes.length) return undefined;
    const count = length === 8 ? Number(bytes.readBigUInt64LE(at + 1)) : bytes.readUIntLE(at + 1, length);
    return at + 1 + length + count;
  }
  let next: number | undefined = at + 1 + fixed[op]!;
  for (let left = lines[op]!; left > 0 && next !== undefined; left--) {
    const newline: number = bytes.indexOf(0x0a, next);
    next = newline === -1 ? undefined : newline + 1;
  }
  return next;
}
