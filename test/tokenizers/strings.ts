/** Strings that tokenizers are tried with: every script, and what trips them up. */

const pieces = [
  ...[
    "'s",
    "'ll",
    "'S",
    ' the',
    ' of',
    'hello',
    ' world',
    'ing',
    'Ab',
    'zZ',
    '0',
    '42',
    ' 7',
    '...',
    ' (',
    '!?',
    '_',
    '\\',
    '"',
  ],
  ...[
    ' ',
    '  ',
    '    ',
    '\n',
    '\n\n',
    '\r\n',
    '\t',
    '\u0085',
    '\u00a0',
    '\u2003',
    '\u3000',
    '\u2028',
    '\ufeff',
    '\u200b',
  ],
  ...['\0', '\x01', '\x1f', '\x7f', '\x9f', '\ufffd', '\uffff', '\u{10ffff}', '\ue000'],
  ...['é', 'e\u0301', 'ñ', 'ß', 'İ', 'ǅ', '\u0301', 'a\u0308\u0323', 'क्षि', 'ﬁ', 'Å', '가', '\u1100\u1161'],
  ...[
    '漢字',
    '、',
    'ひらがな',
    'カ',
    'ﾊﾟ',
    '한국',
    'สวัสดี',
    'مرحبا',
    'שלום',
    'Привет',
    'Ω',
    '١٢',
    '१',
    'Ⅷ',
    '²',
    '½',
    '〇',
  ],
  ...['🙂', '👩‍👩‍👧‍👦', '🏳️‍🌈', '🇺🇳', '🤦🏽‍♀️', '𝒳', '𐍈', '𠜎', '\u{1f9ff}', '<|endoftext|>', '<|endoftext', '<user>', ' <pad> '],
];

const ranges = [
  [0x20, 0x7e],
  [0x00, 0xff],
  [0x100, 0x17f],
  [0x370, 0x3ff],
  [0x4e00, 0x9fa5],
  [0xac00, 0xd7a3],
  [0x1f600, 0x1f64f],
  [0x20000, 0x2a6d6],
] as const;

/** A generator of integers in [0, n), the same ones every time. */
export function generator(seed: number): (n: number) => number {
  let state = seed;
  return (n) => (state = (state * 48271) % 2147483647) % n;
}

/** As many strings; one in ten has an unpaired surrogate where that is asked for. */
export function strings(count: number, { seed = 1, surrogates = false } = {}): string[] {
  const random = generator(seed);
  const one = (): string => {
    const [first, last] = ranges[random(ranges.length)]!;
    return random(3) === 0 ? String.fromCodePoint(first + random(last - first + 1)) : pieces[random(pieces.length)]!;
  };
  return Array.from({ length: count }, (_, i) => {
    const parts = Array.from({ length: random(24) }, one);
    if (surrogates && i % 10 === 0) parts.splice(random(parts.length + 1), 0, random(2) === 0 ? '\ud83d' : '\ude42');
    return parts.join('');
  });
}

/** With U+FFFD for each unpaired surrogate, as text is when it is written as UTF-8. */
export function wellFormed(text: string): string {
  return Buffer.from(text).toString();
}
