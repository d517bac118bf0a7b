import { checkArgument, CheckpointCode, CheckpointError, describe } from '../errors';
import { readPlain } from '../formats/pt/pickles';
import { writePickle } from '../pickle/writer';
import { CharTokenizer } from './char';

/**
 * Reads the character tokenizer in nanoGPT's `meta.pkl`, a dict of `vocab_size`, `itos` and `stoi`, with the file's ids
 * in any order. Nothing in the file is executed, and it may name no class or function.
 *
 * @param where name of the file, for errors
 * @throws CheckpointError for any other file
 */
export function charFromMetaPickle(bytes: Uint8Array, where: string): CharTokenizer {
  checkArgument(bytes instanceof Uint8Array, 'the bytes of a pickle, a Uint8Array,', bytes, 'charFromMetaPickle');
  checkArgument(typeof where === 'string', 'the name of the file', where, 'charFromMetaPickle');
  const meta = readPlain(bytes, where);
  const stoi = meta instanceof Map ? (meta as Map<unknown, unknown>).get('stoi') : undefined;
  const itos = meta instanceof Map ? (meta as Map<unknown, unknown>).get('itos') : undefined;
  if (!(stoi instanceof Map) || !(itos instanceof Map)) {
    throw wrong(
      where,
      `expected the dicts 'stoi' and 'itos', as nanoGPT's prepare.py writes them, got ${describe(meta)}`,
    );
  }
  const chars = Array.from({ length: itos.size }, (_, id) => {
    const char = (itos as Map<unknown, unknown>).get(id);
    if (typeof char !== 'string')
      throw wrong(where, `itos must name ids 0 to ${itos.size - 1}, but id ${id} is ${describe(char)}`);
    if (stoi.get(char) !== id)
      throw wrong(where, `itos and stoi differ on ${describe(char)}: ${id} and ${describe(stoi.get(char))}`);
    return char;
  });
  if (stoi.size !== chars.length) throw wrong(where, `itos has ${chars.length} characters, but stoi has ${stoi.size}`);
  const size = (meta as Map<unknown, unknown>).get('vocab_size') ?? chars.length;
  if (size !== chars.length)
    throw wrong(where, `vocab_size is ${describe(size)}, but itos has ${chars.length} characters`);
  return new CharTokenizer(chars);
}

/** Writes a character tokenizer as a `meta.pkl`, which nanoGPT's sample.py reads next to its data. */
export function charToMetaPickle(tokenizer: CharTokenizer): Uint8Array {
  checkArgument(tokenizer instanceof CharTokenizer, 'a CharTokenizer', tokenizer, 'charToMetaPickle');
  const { chars } = tokenizer;
  return writePickle(
    new Map<string, unknown>([
      ['vocab_size', chars.length],
      ['itos', new Map(chars.map((char, id) => [id, char]))],
      ['stoi', new Map(chars.map((char, id) => [char, id]))],
    ]),
  );
}

function wrong(where: string, reason: string): CheckpointError {
  return new CheckpointError(`${where}: ${reason}`, CheckpointCode.format);
}
