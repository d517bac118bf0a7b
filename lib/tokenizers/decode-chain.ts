import { isUtf8 } from 'node:buffer';
import { checkId, tokenBytes } from './decode';
import type { Json } from './json-checks';
import type { StreamDecoder } from './tokenizer';

/**
 * The decoders of Hugging Face's `tokenizer.json`, as Python's `tokenizers` computes them, but token by token: each part holds
 * back what a later token can still change. So the pieces of a stream, joined, are what decoding all tokens at once gives.
 */
export class ChainDecoder implements StreamDecoder {
  private readonly parts: readonly Part[];

  /**
   * @param tokenOf the token of an id, as the vocabulary writes it
   * @param isWhole all ids are decoded at once: a run of byte tokens is judged as a whole, as in Python. In a stream each
   *   character of it is given as soon as it is complete.
   */
  constructor(
    private readonly tokenOf: (id: number) => string | undefined,
    decoder: Json | null,
    isWhole: boolean,
  ) {
    this.parts = decoder === null ? [joinBySpaces()] : makeParts(decoder, isWhole);
  }

  push(id: number): string {
    checkId(id);
    return this.run([this.tokenOf(id) ?? '\u{fffd}'], 0);
  }

  end(): string {
    let text = '';
    this.parts.forEach((part, i) => (text += this.run(part.end(), i + 1)));
    return text;
  }

  private run(tokens: string[], from: number): string {
    let current = tokens;
    for (const part of this.parts.slice(from)) current = current.flatMap((token) => part.push(token));
    return current.join('');
  }
}

/** One decoder of a chain. Tokens come in and go out in order. */
interface Part {
  push(token: string): string[];
  end(): string[];
}

function makeParts(decoder: Json, isWhole: boolean): Part[] {
  const parts = decoder.type === 'Sequence' ? (decoder.decoders as Json[]) : [decoder];
  // After Fuse and ByteLevel there is one token: the whole text.
  const fused = parts.findIndex(({ type }) => type === 'Fuse' || type === 'ByteLevel');
  return parts.map((part, i) => makePart(part, fused !== -1 && i > fused, isWhole));
}

function makePart(part: Json, isFused: boolean, isWhole: boolean): Part {
  switch (part.type) {
    case 'ByteLevel':
      return byteLevel();
    case 'ByteFallback':
      return byteFallback(isWhole);
    case 'Metaspace':
      return metaspace(part.replacement as string, part.prepend_scheme !== 'never', isFused);
    case 'WordPiece':
      return wordPiece(part.prefix as string, part.cleanup === true);
    case 'BPEDecoder':
      return bpeSuffix(part.suffix as string);
    case 'Replace':
      return replace((part.pattern as { String: string }).String, part.content as string);
    case 'Strip':
      return strip(part.content as string, part.start as number, part.stop as number, isFused);
    default: // Fuse: the pieces of a text need not be joined here.
      return each((token) => token);
  }
}

function each(change: (token: string, index: number) => string): Part {
  let index = 0;
  return { push: (token) => [change(token, index++)], end: () => [] };
}

/** Python joins the tokens by spaces where a tokenizer has no decoder. */
function joinBySpaces(): Part {
  return each((token, index) => (index === 0 ? token : ` ${token}`));
}

function replace(pattern: string, content: string): Part {
  return each((token) => token.replaceAll(pattern, () => content));
}

function metaspace(replacement: string, isPrepended: boolean, isFused: boolean): Part {
  return each((token, index) => token.replaceAll(replacement, isPrepended && (index === 0 || isFused) ? '' : ' '));
}

const cleanups: readonly (readonly [from: string, to: string])[] = [
  [' .', '.'],
  [' ?', '?'],
  [' !', '!'],
  [' ,', ','],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [' do not', " don't"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

function wordPiece(prefix: string, isCleaned: boolean): Part {
  return each((token, index) => {
    let text = token;
    if (index > 0) text = text.startsWith(prefix) ? text.slice(prefix.length) : ` ${text}`;
    return isCleaned ? cleanups.reduce((all, [from, to]) => all.replaceAll(from, to), text) : text;
  });
}

/** The end of a word is a space, but not after the last token. */
function bpeSuffix(suffix: string): Part {
  let held: string | undefined;
  const written = (space: string): string[] =>
    held === undefined ? [] : [suffix === '' ? held : held.replaceAll(suffix, space)];
  return {
    push(token) {
      const tokens = written(' ');
      held = token;
      return tokens;
    },
    end: () => written(''),
  };
}

function byteLevel(): Part {
  const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
  return {
    push: (token) => [utf8.decode(tokenBytes(token), { stream: true })],
    end: () => [utf8.decode()],
  };
}

/** Tokens `<0x00>` to `<0xFF>` stand for bytes. Where a run of them is not UTF-8, each of its bytes becomes U+FFFD. */
function byteFallback(isWhole: boolean): Part {
  let run: number[] = [];
  const flush = (): string[] => {
    const bytes = Buffer.from(run);
    run = [];
    return bytes.length === 0 ? [] : [isUtf8(bytes) ? bytes.toString() : '\u{fffd}'.repeat(bytes.length)];
  };
  return {
    push(token) {
      const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
      if (byte === null) return [...flush(), token];
      run.push(parseInt(byte[1]!, 16));
      const isComplete = run.length >= lengthOf(run[0]!) || isUtf8(Buffer.from(run));
      return isComplete && !isWhole ? flush() : [];
    },
    end: flush,
  };
}

/** Bytes of the character that begins with this byte; 1 for a byte that begins none. */
function lengthOf(first: number): number {
  if (first >= 0xf0) return 4;
  if (first >= 0xe0) return 3;
  return first >= 0xc0 ? 2 : 1;
}

/** Cuts up to `start` of a character from the front, and `stop` from the back. */
function strip(content: string, start: number, stop: number, isFused: boolean): Part {
  const cut = (text: string, front: number, back: number): string => {
    const chars = [...text];
    let from = 0;
    let to = chars.length;
    while (from < front && chars[from] === content) from++;
    while (chars.length - to < back && to > from && chars[to - 1] === content) to--;
    return chars.slice(from, to).join('');
  };
  if (!isFused) return each((token) => cut(token, start, stop));
  let left = start;
  let held = '';
  return {
    push(piece) {
      const chars = [...piece];
      let from = 0;
      while (left > 0 && chars[from] === content) [from, left] = [from + 1, left - 1];
      if (from < chars.length) left = 0;
      const text = held + chars.slice(from).join('');
      const most = [...text];
      let end = most.length;
      while (most.length - end < stop && most[end - 1] === content) end--;
      held = most.slice(end).join('');
      return [most.slice(0, end).join('')];
    },
    end: () => [cut(held, 0, stop)],
  };
}
