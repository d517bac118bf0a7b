import { readFile } from 'node:fs/promises';
import { text as readAll } from 'node:stream/consumers';
import { usageError } from './errors';

/** The text to train on. */
export async function readText(file: string | undefined): Promise<string> {
  if (file === undefined) {
    throw usageError('Say what to train on: --input-file FILE, or TRAINING_DATA_SOURCE=FILE; - is stdin.');
  }
  if (file === '-') return readAll(process.stdin);
  const bytes = await readFile(file).catch((error: Error) => {
    throw usageError(`The text to train on cannot be read: ${error.message}`);
  });
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw usageError(`${file} is no text in UTF-8.`);
  }
}
