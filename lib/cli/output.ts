import { alignColumns, printable } from '../checkpoint/text-table';

let isSilent = false;

/** From now on nothing is printed: another rank of the job prints. */
export function silence(): void {
  isSilent = true;
}

/** Data for stdout: JSON for machines, text for people. */
export function print(json: boolean | undefined, value: unknown, text: string | (() => string)): void {
  if (json === true) process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
  else {
    const shown = typeof text === 'string' ? text : text();
    if (shown !== '') printLine(shown);
  }
}

/** A line of data. */
export function printLine(text: string): void {
  if (isSilent) return;
  process.stdout.write(`${text}\n`);
}

/** A remark that is not data. */
export function note(text: string): void {
  if (isSilent) return;
  process.stderr.write(`${text}\n`);
}

/** A table for people; columns of numbers to the right. */
export function table(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const numbers = titles.map((_, column) => column).filter((column) => rows.every((row) => isNumber(row[column]!)));
  return alignColumns([titles, ...rows.map((row) => row.map(printable))], numbers).join('\n');
}

function isNumber(cell: string): boolean {
  return /^[\d.,e+-]*( [kMGT]?B)?$/.test(cell);
}

/** A number of bytes for people: 1.5 MB. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = bytes === 0 ? 0 : Math.min(Math.floor(Math.log10(bytes) / 3), units.length - 1);
  const value = bytes / 1000 ** power;
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}

/** A moment for people, in local time: 2026-11-21 10:15. */
export function formatTime(date: Date): string {
  const local = new Date(date.getTime() - date.getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 16).replace('T', ' ');
}
