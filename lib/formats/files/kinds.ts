/** What other files begin with, so that an error says what a file is and what to do with it. */

interface FileKind {
  what: string;
  test: (head: Buffer, size: number) => boolean;
}

const kinds: readonly FileKind[] = [
  { what: 'a Git LFS pointer, not the file itself; run git lfs pull', test: startsWith('version https://git-lfs') },
  { what: 'a safetensors file; read it with loadSafetensors()', test: isSafetensors },
  { what: 'an empty zip', test: startsWith('PK\x05\x06') },
  {
    what: 'a NumPy array (.npy); save it in Python with torch.save(torch.from_numpy(array), path)',
    test: startsWith('\x93NUMPY'),
  },
  { what: 'an HDF5 file, as Keras writes them', test: startsWith('\x89HDF') },
  { what: 'a GGUF file of llama.cpp; load() reads its tensors', test: startsWith('GGUF') },
  { what: 'a GGML file, as llama.cpp read them', test: startsWith('lmgg', 'tjgg', 'fjgg') },
  { what: 'an ONNX model, which holds a program', test: isOnnx },
  { what: 'a TensorFlow Lite model', test: (head) => head.toString('latin1', 4, 8) === 'TFL3' },
  { what: 'a file of Torch7 (Lua); convert it in Python with torchfile and torch.save', test: isTorch7 },
  { what: 'a Parquet file', test: startsWith('PAR1') },
  { what: 'gzip-compressed; unpack it first', test: startsWith('\x1f\x8b') },
  { what: 'bzip2-compressed; unpack it first', test: startsWith('BZh') },
  { what: 'xz-compressed; unpack it first', test: startsWith('\xfd7zXZ') },
  { what: 'zstd-compressed; unpack it first', test: startsWith('\x28\xb5\x2f\xfd') },
  { what: 'a 7-zip archive; unpack it first', test: startsWith('7z\xbc\xaf\x27\x1c') },
  {
    what: 'a web page, as a download that failed leaves it; download the file again',
    test: (head) => /^\s*<(!doctype|html|head)\b/i.test(head.toString('latin1')),
  },
  { what: 'a bare pickle, which is not what torch.save writes; write it with torch.save', test: isBarePickle },
  {
    what: 'a bare pickle of protocol 0, which is not what torch.save writes; write it with torch.save',
    test: isTextPickle,
  },
  {
    what: 'a text file',
    test: (head) => head.every((byte) => byte >= 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d),
  },
];

/** Number of bytes at the start of a file from which its kind is recognised. */
export const headSize = 512;

/** Describes a file by its first bytes, and says what to do with it; undefined for an unknown kind. */
export function kindOf(head: Buffer, size: number): string | undefined {
  return kinds.find(({ test }) => test(head, size))?.what;
}

/** Whether a file begins as a pickle, of any protocol. */
export function isPickle(head: Buffer): boolean {
  return isBarePickle(head) || isTextPickle(head);
}

/** A 64-bit header length within the file, then JSON. */
export function isSafetensors(head: Buffer, size: number): boolean {
  return head.length > 8 && head[8] === 0x7b && head.readBigUInt64LE(0) <= BigInt(size - 8);
}

function startsWith(...texts: string[]): FileKind['test'] {
  const starts = texts.map((text) => Buffer.from(text, 'latin1'));
  return (head) => starts.some((bytes) => head.subarray(0, bytes.length).equals(bytes));
}

/** Protocol 2 to 5. */
function isBarePickle(head: Buffer): boolean {
  return head[0] === 0x80 && head[1]! >= 2 && head[1]! <= 5;
}

/** Protocols 0 and 1 have no sign at their beginning: a dict, list or tuple that is put into the memo, or a name in two lines. */
function isTextPickle(head: Buffer): boolean {
  return /^(\(?[dl]p\d+\n|\([dl]q|[\]})]q|c[A-Za-z_][\w.]*\n\w+\n|\(i[A-Za-z_][\w.]*\n\w+\n|[ILFSV][^\n]*\n(p\d+\n)?[.(aslI])/.test(
    head.toString('latin1'),
  );
}

/** A ModelProto: its version, then the name of its producer. */
function isOnnx(head: Buffer): boolean {
  return (
    head[0] === 0x08 && head[1]! > 0 && head[1]! < 0x20 && (head[2] === 0x12 || head[2] === 0x3a || head[2] === 0x42)
  );
}

/** An object or table with index 1, in binary or in text. */
function isTorch7(head: Buffer): boolean {
  const isBinary = head.length >= 8 && [3, 4].includes(head.readUInt32LE(0)) && head.readUInt32LE(4) === 1;
  return isBinary || /^[34]\n1\n(\d+\n|V )/.test(head.toString('latin1', 0, 16));
}

const zipKinds: readonly (readonly [what: string, name: RegExp])[] = [
  ['a NumPy archive (.npz); save its arrays in Python with torch.save', /\.npy$/],
  ['a Keras model', /^(model\.weights\.h5|keras_metadata\.pb)$/],
  ['a Java archive', /^META-INF\//],
  ['an Office document', /^(\[Content_Types\]\.xml|mimetype)$/],
  ['a Python wheel or egg', /\.dist-info\/|^EGG-INFO\//],
];

/** What a zip is that torch.save did not write, by the names in it, and what to do with it. */
export function zipKindOf(names: readonly string[]): string {
  const known = zipKinds.find(([, test]) => names.some((name) => test.test(name)));
  if (known !== undefined) return known[0];
  const inner = names.find((name) => /\.(pt|pth|bin|ckpt|safetensors)$/.test(name));
  if (inner !== undefined) return `a zip that holds ${JSON.stringify(inner)}; unpack it, and load that file`;
  return `a zip of another program, which begins with ${JSON.stringify(names[0])}`;
}
