import { readFile, stat } from 'node:fs/promises';
import { text as readAll } from 'node:stream/consumers';
import { TokenFile, TokenStream } from '../data';
import { loadTokenizer, type Tokenizer, tokenizerForText } from '../tokenizers';
import { usageError } from './errors';

/** What to train on: a text, or tokens with the tokenizer that made them. */
export interface TrainingData {
  fit: { text: string } | { data: TokenStream };
  /** For a new model's vocabulary; empty where there are tokens only. */
  text: string;
  /** The one that made the tokens. */
  tokenizer: Tokenizer | undefined;
}

/** Reads a text, or opens nanoGPT's `train.bin` and `val.bin` in a directory, or one file of tokens. */
export async function readData(file: string | undefined): Promise<TrainingData> {
  if (file === undefined) {
    throw usageError('Say what to train on: --input-file FILE, or TRAINING_DATA_SOURCE=FILE; - is stdin.');
  }
  const info = file === '-' ? undefined : await stat(file).catch(() => undefined);
  if (info?.isDirectory() === true) return withTokens(TokenStream.open(file), file);
  if (file.endsWith('.bin')) return withTokens(new TokenStream(TokenFile.open(file)), file);
  const text = await readText(file);
  return { fit: { text }, text, tokenizer: undefined };
}

async function withTokens(data: TokenStream, place: string): Promise<TrainingData> {
  const tokenizer = (await loadTokenizer(place)) ?? tokenizerForText('gpt2', '');
  return { fit: { data }, text: '', tokenizer };
}

/**
 * A file of text, or stdin, as Python's `open(file, encoding='utf-8').read()` gives it to the programs whose models are
 * trained further here: every line ends in `\n`, whatever it ends in in the file, and a byte order mark is a character.
 */
export async function readText(file: string): Promise<string> {
  if (file === '-') return withPythonsLineEnds(await readAll(process.stdin));
  const bytes = await readFile(file).catch((error: Error) => {
    throw usageError(`Cannot read the input file: ${error.message}`);
  });
  try {
    return withPythonsLineEnds(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    throw usageError(`${file} is not a UTF-8 text file.`);
  }
}

/** Python's universal newlines. */
function withPythonsLineEnds(text: string): string {
  return text.replace(/\r\n?/g, '\n');
}
