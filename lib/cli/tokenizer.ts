import { CharTokenizer, loadTokenizer, type Tokenizer } from '../tokenizers';
import { usageError } from './errors';
import { note } from './output';

interface TokenizerFlags {
  tokenizer?: string;
  customVocabSize?: number;
}

/** The tokenizer that a flag names; undefined where none does. */
export async function givenTokenizer({ tokenizer, customVocabSize }: TokenizerFlags): Promise<Tokenizer | undefined> {
  if (tokenizer === undefined) return undefined;
  const found = await loadTokenizer(tokenizer);
  if (found === null) throw usageError(`Found no tokenizer in ${tokenizer}.`);
  if (customVocabSize !== undefined && found.vocabSize !== customVocabSize) {
    throw usageError(`The tokenizer in ${tokenizer} has ${found.vocabSize} tokens, and not ${customVocabSize}.`);
  }
  return found;
}

/** Python's files do not hold the characters of a model; those of the text that it was trained on are the same ones. */
export function charactersOf(file: string, text: string, vocabSize: number): Tokenizer {
  const tokenizer = CharTokenizer.fromText(text);
  if (tokenizer.vocabSize === vocabSize) {
    note(`${file} holds no tokenizer; its ${vocabSize} characters are taken from the text`);
    return tokenizer;
  }
  throw usageError(
    `${file} holds no tokenizer, and the text has ${tokenizer.vocabSize} characters where the model has ${vocabSize} tokens. ` +
      'Train on the text that it was made with, or give its tokenizer: --tokenizer PATH.',
  );
}
