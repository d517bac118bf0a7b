import { CheckpointCode, CheckpointError } from '../errors';
import { type AddedToken, checkVocabulary } from './json-checks';
import type { HuggingFaceJson } from './tokenizer';

const endOfText = '<|endoftext|>';

/**
 * The `tokenizer.json` that says what GPT-2's older pair of files says, `vocab.json` and `merges.txt`.
 *
 * @param added tokens beyond the vocabulary, `{ token: id }`, as `added_tokens.json` has them
 * @param where name of the directory, for errors
 */
export function fromVocabAndMerges(
  vocab: unknown,
  merges: string,
  { added = {}, addPrefixSpace = false, where }: { added?: unknown; addPrefixSpace?: boolean; where: string },
): HuggingFaceJson {
  const refuse = (reason: string): never => {
    throw new CheckpointError(`${where}: ${reason}`, CheckpointCode.format);
  };
  const ids = checkVocabulary(vocab, 'vocab.json', refuse);
  const addedIds = checkVocabulary(added, 'added_tokens.json', refuse);
  const end = ids.get(endOfText);
  if (end !== undefined) addedIds.set(endOfText, end);
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: Array.from(addedIds, ([content, id]) => addedToken(id, content)).sort((a, b) => a.id - b.id),
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: addPrefixSpace, trim_offsets: true, use_regex: true },
    post_processor: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: false, use_regex: true },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges: readMerges(merges, refuse),
    },
  };
}

function addedToken(id: number, content: string): AddedToken & Record<string, unknown> {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
}

/** A pair of tokens a line, the one to merge first on top, after a line `#version: ...`. */
function readMerges(text: string, refuse: (reason: string) => never): [string, string][] {
  const pairs: [string, string][] = [];
  text.split('\n').forEach((line, i) => {
    const content = line.endsWith('\r') ? line.slice(0, -1) : line;
    if (content === '' || content.startsWith('#version')) return;
    const pair = content.split(' ');
    if (pair.length !== 2)
      refuse(`merges.txt, line ${i + 1}: expected two tokens, got ${JSON.stringify(line.slice(0, 60))}`);
    pairs.push(pair as [string, string]);
  });
  return pairs;
}
