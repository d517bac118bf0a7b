import { randomUUID } from 'node:crypto';
import { CheckpointCode, CheckpointError } from '../../errors';

/**
 * JSON as Python's `json` module reads and writes it: with the bare words NaN, Infinity and -Infinity, which JSON itself does
 * not have.
 */

/** What values may take of memory: as much as the text needs in files of few large parts, and a multiple of it in all. */
const freeMemory = 16 * 2 ** 20;
const memoryOfText = 8;

/** About what values take in V8, in bytes. */
const Cost = { object: 100, array: 60, string: 24, item: 16, property: 40 } as const;

/** How deep a config, a tokenizer or the state of a training nests at most. */
const maxDepth = 64;

/**
 * Parses the text of a config, a tokenizer, the state of a training and the like.
 *
 * @throws CheckpointError for what is not JSON, nests deeper than such files do, or would take far more memory than they need
 */
export function parseSettings(text: string): unknown {
  checkSize(text);
  try {
    return parsePythonJson(text.startsWith('\ufeff') ? text.slice(1) : text);
  } catch (error) {
    throw new CheckpointError(`not valid JSON: ${(error as Error).message}`, CheckpointCode.format, { cause: error });
  }
}

/** Parsing `[{},{},...]` takes forty times its length in memory: such a text is refused before it is parsed. */
function checkSize(text: string): void {
  const most = freeMemory + memoryOfText * text.length;
  let memory = 0;
  let depth = 0;
  for (let i = 0; i < text.length && memory <= most; i++) {
    switch (text.charCodeAt(i)) {
      case 0x22: // "
        memory += Cost.string;
        i = endOfString(text, i) - 1;
        break;
      case 0x7b: // {
        memory += Cost.object;
        depth++;
        break;
      case 0x5b: // [
        memory += Cost.array;
        depth++;
        break;
      case 0x7d: // }
      case 0x5d: // ]
        depth--;
        break;
      case 0x2c: // ,
        memory += Cost.item;
        break;
      case 0x3a: // :
        memory += Cost.property;
        break;
      default:
    }
    if (depth > maxDepth) throw new CheckpointError(`it nests deeper than ${maxDepth} levels`, CheckpointCode.format);
  }
  if (memory > most)
    throw new CheckpointError(
      `expected values that take up to ${Math.ceil(most / 2 ** 20)} MB of memory, got more: the file is damaged or made to exhaust ` +
        'the memory. Replace it by the one that the program wrote',
      CheckpointCode.limit,
    );
}

/** @throws SyntaxError */
export function parsePythonJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const mark = unusedMark(text);
    const strict = replaceWords(text, mark);
    if (strict === text) throw error;
    return JSON.parse(strict, (name, value: unknown) => {
      if (name === mark) throw error;
      return value === mark ? NaN : value;
    });
  }
}

/** As `json.dumps(value, indent=2)`, in ASCII. */
export function pythonJson(value: object): string {
  const words = new Map<string, string>();
  const wordOf = (number: number): string => {
    const mark = randomUUID();
    words.set(`"${mark}"`, Number.isNaN(number) ? 'NaN' : number > 0 ? 'Infinity' : '-Infinity');
    return mark;
  };
  const json = JSON.stringify(
    value,
    (_, item: unknown) => (typeof item === 'number' && !Number.isFinite(item) ? wordOf(item) : item),
    2,
  );
  const ascii = json.replace(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return words.size === 0 ? ascii : ascii.replace(/"[\da-f-]{36}"/g, (mark) => words.get(mark) ?? mark);
}

/** A string that is nowhere in the text, so that no value of it is taken for NaN. */
function unusedMark(text: string): string {
  for (;;) {
    const mark = randomUUID();
    if (!text.includes(mark)) return mark;
  }
}

/** The text with numbers that JSON.parse takes for infinite in place of Infinity, and `mark` in place of NaN. */
function replaceWords(text: string, mark: string): string {
  const parts: string[] = [];
  let done = 0;
  const token = /"|\bNaN\b|\bInfinity\b/g;
  for (let match = token.exec(text); match !== null; match = token.exec(text)) {
    if (match[0] === '"') {
      token.lastIndex = endOfString(text, match.index);
      continue;
    }
    parts.push(text.slice(done, match.index), match[0] === 'NaN' ? `"${mark}"` : '1e999');
    done = token.lastIndex;
  }
  return parts.length === 0 ? text : parts.join('') + text.slice(done);
}

/** Behind the closing quote of the string that begins at `start`. */
function endOfString(text: string, start: number): number {
  let end = start + 1;
  while (end < text.length && text[end] !== '"') end += text[end] === '\\' ? 2 : 1;
  return end + 1;
}
