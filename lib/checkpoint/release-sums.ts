import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { CheckpointCode, CheckpointError } from '../errors';
import { exists, readText } from './files';
import { recordOf } from './manifest';
import { sumsFile } from './programs/release';

/** The lines of SHA256SUMS: 64 digits, two spaces, and the plain name of a file next to it. */
const linePattern = /^([0-9a-f]{64}) [ *]([^/\\:\0]+)$/;

/** As `sha256sum` writes it, by name. */
export function formatSums(sums: Readonly<Record<string, string>>): string {
  return Object.keys(sums)
    .sort()
    .map((name) => `${sums[name]!}  ${name}\n`)
    .join('');
}

/** The checksums of a package's files by their names; undefined where it has none. */
export async function readSums(directory: string): Promise<Map<string, string> | undefined> {
  const file = path.join(directory, sumsFile);
  if (!(await exists(file))) return undefined;
  const sums = new Map<string, string>();
  for (const line of (await readText(file)).split('\n')) {
    if (line === '') continue;
    const [, sum, name] = linePattern.exec(line) ?? [];
    if (sum === undefined || name === undefined || name === '.' || name === '..') {
      throw new CheckpointError(`${file}: expected lines of a SHA-256 and the name of a file`, CheckpointCode.format);
    }
    sums.set(name, sum);
  }
  return sums;
}

/** How the files of a package differ from its checksums; empty where they do not. Reads all of them. */
export async function sumDifferences(directory: string, sums: ReadonlyMap<string, string>): Promise<string[]> {
  const found: string[] = [];
  for (const [name, expected] of sums) {
    const file = path.join(directory, name);
    const sum = (await exists(file)) ? (await recordOf(file)).sha256 : undefined;
    if (sum === undefined) found.push(`${name} is missing`);
    else if (sum !== expected) found.push(`${name} is not the file that was exported: its SHA-256 is ${sum}`);
  }
  for (const name of await readdir(directory))
    if (name !== sumsFile && !sums.has(name)) found.push(`${name} is not in ${sumsFile}`);
  return found;
}
