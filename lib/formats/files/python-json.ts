import { randomUUID } from 'node:crypto';

/**
 * JSON as Python's `json` module reads and writes it: with the bare words NaN, Infinity and -Infinity, which JSON itself does
 * not have.
 */

/** @throws SyntaxError */
export function parsePythonJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const mark = unusedMark(text);
    const strict = replaceWords(text, mark);
    if (strict === text) throw error;
    return JSON.parse(strict, (_, value: unknown) => (value === mark ? NaN : value));
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
