/** Text as Python pickles it: UTF-8 where lone surrogates pass, and the escapes of protocol 0. */

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Decodes UTF-8 as Python's `surrogatepass` does; undefined where the bytes are not that. */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return strictUtf8.decode(bytes);
  } catch {
    return decodeWithSurrogates(bytes);
  }
}

/** UTF-8 with encoded lone surrogates (ED A0..BF xx). A high one just before a low one has no twin in JavaScript. */
function decodeWithSurrogates(bytes: Uint8Array): string | undefined {
  let text = '';
  let start = 0;
  let afterHigh = -1;
  try {
    for (let i = 0; i + 2 < bytes.length; i++) {
      if (bytes[i] !== 0xed || bytes[i + 1]! < 0xa0) continue;
      const unit = 0xd000 | ((bytes[i + 1]! & 0x3f) << 6) | (bytes[i + 2]! & 0x3f);
      const isLow = unit >= 0xdc00;
      if (bytes[i + 1]! > 0xbf || (bytes[i + 2]! & 0xc0) !== 0x80 || (isLow && afterHigh === i)) return undefined;
      text += strictUtf8.decode(bytes.subarray(start, i)) + String.fromCharCode(unit);
      start = i + 3;
      afterHigh = isLow ? -1 : start;
      i += 2;
    }
    return text + strictUtf8.decode(bytes.subarray(start));
  } catch {
    return undefined;
  }
}

/** UTF-8 as Python's `surrogatepass` writes it. */
export function encodeUtf8(text: string): Uint8Array {
  if (!/\p{Surrogate}/u.test(text)) return Buffer.from(text, 'utf8');
  const pieces: Uint8Array[] = [];
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    const point = text.codePointAt(i)!;
    if (point > 0xffff) i++;
    else if (point >= 0xd800 && point <= 0xdfff) {
      pieces.push(Buffer.from(text.slice(start, i), 'utf8'));
      pieces.push(Uint8Array.of(0xed, 0x80 | ((point >> 6) & 0x3f), 0x80 | (point & 0x3f)));
      start = i + 1;
    }
  }
  pieces.push(Buffer.from(text.slice(start), 'utf8'));
  return Buffer.concat(pieces);
}

/** The text of opcode UNICODE: Latin-1 with the escapes \uXXXX and \UXXXXXXXX; undefined where one is malformed. */
export function decodeRawUnicodeEscape(line: string): string | undefined {
  let valid = true;
  const text = line.replace(/(\\+)(u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|[uU])/g, (all, slashes: string, _, u4, u8) => {
    if (slashes.length % 2 === 0) return all;
    const point = parseInt((u4 ?? u8 ?? 'x') as string, 16);
    if (!(point <= 0x10ffff)) {
      valid = false;
      return '';
    }
    return slashes.slice(1) + String.fromCodePoint(point);
  });
  return valid ? text : undefined;
}

const simpleEscapes: Record<string, string> = {
  '\n': '',
  '\\': '\\',
  "'": "'",
  '"': '"',
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};

/** The bytes of opcode STRING: Python 2's repr of a str, quoted; undefined where it is malformed. */
export function decodeQuotedString(line: string): Uint8Array | undefined {
  const text = line.trim();
  const quote = text[0];
  if (text.length < 2 || (quote !== "'" && quote !== '"') || text.at(-1) !== quote) return undefined;
  let valid = true;
  const inner = text.slice(1, -1).replace(/\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|[^]|$)/g, (_, escape: string) => {
    if (/^x./.test(escape)) return String.fromCharCode(parseInt(escape.slice(1), 16));
    if (/^[0-7]/.test(escape)) return String.fromCharCode(parseInt(escape, 8) & 0xff);
    if (escape === '' || escape === 'x') valid = false;
    return simpleEscapes[escape] ?? `\\${escape}`;
  });
  return valid ? Buffer.from(inner, 'latin1') : undefined;
}
