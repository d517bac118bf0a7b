import { describe } from '../errors';
import {
  type AddedToken,
  checkMerges,
  checkVocabulary,
  flatten,
  isObject,
  isText,
  type Json,
  type Refuse,
} from './json-checks';

/**
 * Which tokenizers the Rust engine computes, and what must hold before it sees them. It is native code that ends the process
 * where it panics, so that a file from anywhere is checked part by part.
 */

const models = ['BPE', 'Unigram', 'WordPiece', 'WordLevel'];

/** Whether a tokenizer is of another kind than the byte-level BPE that is computed without the engine. */
export function needsEngine(json: Json): boolean {
  const model = json.model as Json;
  if (models.includes(model.type as string) && model.type !== 'BPE') return true;
  if (model.byte_fallback || model.continuing_subword_prefix || model.end_of_word_suffix) return true;
  if (typeOf(json.decoder) !== 'ByteLevel') return true;
  const parts = partsOf(json.pre_tokenizer, 'pretokenizers');
  if (typeOf(parts.at(-1)) !== 'ByteLevel') return true;
  if (parts.slice(0, -1).some((part) => !isSimpleSplit(part))) return true;
  if (partsOf(json.normalizer, 'normalizers').some((part) => !/^NFK?[CD]$/.test(typeOf(part)))) return true;
  const added = Array.isArray(json.added_tokens) ? (json.added_tokens as unknown[]) : [];
  return added.some((token) => isObject(token) && (token.single_word || token.lstrip || token.rstrip));
}

function isSimpleSplit(part: unknown): boolean {
  if (!isObject(part) || part.type === 'Digits') return true;
  if (part.type !== 'Split') return false;
  return part.behavior === 'Removed' || (part.behavior === 'Isolated' && !part.invert);
}

function partsOf(value: unknown, member: string): unknown[] {
  if (!isObject(value)) return [];
  const parts = value[member];
  if (value.type !== 'Sequence' || !Array.isArray(parts)) return [value];
  return (parts as unknown[]).flatMap((part) => partsOf(part, member));
}

function typeOf(value: unknown): string {
  return isObject(value) && typeof value.type === 'string' ? value.type : '';
}

/** The vocabulary of a model that the engine computes. */
export function checkEngineModel(model: Json, refuse: Refuse): Map<string, number> {
  const { type = 'BPE' } = model;
  if (!models.includes(type as string)) refuse(`expected a model of type ${models.join(', ')}, got ${describe(type)}`);
  if (model.dropout) refuse(`its model has dropout ${describe(model.dropout)}, which is not supported`);
  for (const name of ['unk_token', 'continuing_subword_prefix', 'end_of_word_suffix']) {
    const value = model[name] ?? null;
    if (value !== null && !isText(value)) refuse(`${name} must be a text, got ${describe(value)}`);
  }
  if (type === 'Unigram') return checkUnigram(model, refuse);
  const vocab = checkVocabulary(model.vocab, 'model.vocab', refuse);
  const unknown = model.unk_token ?? null;
  if (unknown === null ? type !== 'BPE' : type === 'WordPiece' && !vocab.has(unknown as string))
    refuse(`unk_token ${describe(unknown)} is not in its vocabulary`);
  // With a prefix inside words, a merged token is not its two parts one after the other.
  if (type === 'BPE' && !model.continuing_subword_prefix) checkMerges(model.merges, vocab, refuse);
  return vocab;
}

function checkUnigram(model: Json, refuse: Refuse): Map<string, number> {
  const pieces = Array.isArray(model.vocab) ? (model.vocab as unknown[]) : refuse('model.vocab must be a list');
  const vocab = new Map<string, number>();
  pieces.forEach((piece, id) => {
    const [token, score] = Array.isArray(piece) ? (piece as unknown[]) : [];
    if (typeof token !== 'string' || token === '' || typeof score !== 'number' || !Number.isFinite(score))
      return refuse(`model.vocab[${id}] must be a token and its score, got ${describe(piece)}`);
    if (vocab.has(token)) refuse(`model.vocab has ${describe(token)} twice`);
    vocab.set(token, id);
  });
  const unknown = model.unk_id ?? null;
  const isId = typeof unknown === 'number' && Number.isInteger(unknown) && unknown >= 0 && unknown < pieces.length;
  if (!isId) refuse(`unk_id must be an id of its vocabulary, got ${describe(unknown)}`);
  return vocab;
}

const parts = {
  normalizer: {
    member: 'normalizers',
    types: 'NFC NFD NFKC NFKD Lowercase StripAccents Strip BertNormalizer Replace Prepend Nmt ByteLevel'.split(' '),
  },
  pre_tokenizer: {
    member: 'pretokenizers',
    types:
      'ByteLevel Whitespace WhitespaceSplit BertPreTokenizer Metaspace Split Punctuation Digits CharDelimiterSplit UnicodeScripts'.split(
        ' ',
      ),
  },
  post_processor: {
    member: 'processors',
    types: 'TemplateProcessing ByteLevel BertProcessing RobertaProcessing'.split(' '),
  },
  decoder: {
    member: 'decoders',
    types: 'ByteLevel ByteFallback Fuse Metaspace WordPiece BPEDecoder Replace Strip'.split(' '),
  },
} as const;

/** @returns the parts of the decoder in one list; null where there are none */
export function checkEngineParts(json: Json, refuse: Refuse): Json | null {
  for (const [name, { member, types }] of Object.entries(parts)) {
    const list = flatten(json[name] ?? null, member, refuse);
    if (name === 'normalizer' || name === 'decoder') checkGrowth(list, name, refuse);
    for (const part of list) {
      if (!(types as readonly unknown[]).includes(part.type))
        refuse(`its ${name} is ${describe(part.type)}; only ${types.join(', ')} are read`);
      if (part.pattern !== undefined) checkPattern(part.pattern, name, refuse);
    }
  }
  const decoders = flatten(json.decoder ?? null, 'decoders', refuse);
  decoders.forEach((part, i) => checkDecoder(part, i, decoders, refuse));
  return decoders.length === 0 ? null : { type: 'Sequence', decoders };
}

/** Patterns of published tokenizers. The engine has no limit on time, and takes others only where they cannot take long. */
const knownPatterns = new Set([
  // GPT-2
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
  // Llama 3, SmolLM 3
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  // Qwen 2 and 3
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  // BLOOM
  ' ?[^(\\s|[.,!?…。，、।۔،])]+',
]);

/** No group, and one quantifier: such a pattern takes at most the square of a text's length. */
function isQuick(regex: string): boolean {
  return !/[()|]/.test(regex) && (regex.match(/[*+?{]/g) ?? []).length <= 1 && regex.length <= 100;
}

function checkPattern(pattern: unknown, name: string, refuse: Refuse): void {
  const { Regex: regex, String: text } = isObject(pattern) ? pattern : ({} as Json);
  if (isText(text) && regex === undefined) return;
  if (typeof regex !== 'string') refuse(`the pattern of its ${name} must be a text or a regular expression`);
  if (!knownPatterns.has(regex as string) && !isQuick(regex as string))
    refuse(
      `the regular expression of its ${name} is of no published tokenizer, and could take beyond all measure: ` +
        describe(regex),
    );
}

function checkDecoder(part: Json, index: number, all: readonly Json[], refuse: Refuse): void {
  const texts: Record<string, string[]> = {
    Metaspace: ['replacement'],
    WordPiece: ['prefix'],
    BPEDecoder: ['suffix'],
    Strip: ['content'],
  };
  for (const name of texts[part.type as string] ?? []) {
    if (typeof part[name] !== 'string') refuse(`its decoder ${describe(part.type)} needs ${name}, a text`);
  }
  if (part.type === 'Replace') {
    const text = (part.pattern as Json | undefined)?.String;
    if (!isText(text) || typeof part.content !== 'string')
      refuse('its decoder Replace needs a pattern and a content, two texts');
    const isAfterFuse = all.slice(0, index).some(({ type }) => type === 'Fuse' || type === 'ByteLevel');
    if (isAfterFuse && [...(text as string)].length > 1)
      refuse('its decoder replaces a text of several characters in the joined text, which is not supported');
  }
  if (
    part.type === 'Strip' &&
    ![part.start, part.stop].every((count) => Number.isInteger(count) && (count as number) >= 0)
  )
    refuse('its decoder Strip needs start and stop, two numbers');
}

/** How many times longer all Replace parts together may make a text. */
const maxGrowth = 256;

function checkGrowth(list: readonly Json[], name: string, refuse: Refuse): void {
  const lengths = list.map(({ content, prepend }) =>
    Math.max(...[content, prepend].map((v) => (typeof v === 'string' ? v.length : 1)), 1),
  );
  const growth = lengths.reduce((all, length) => all * length, 1);
  if (growth > maxGrowth)
    refuse(`its ${name} could make a text ${growth} times longer; at most ${maxGrowth} is supported`);
}

/** Whether the engine gives every added token the id that the file says: otherwise texts would get other ids than were trained. */
export function checkIds(added: readonly AddedToken[], idOf: (token: string) => number | null, refuse: Refuse): void {
  for (const { content, id } of added) {
    const given = idOf(content);
    if (given !== id)
      refuse(`added_tokens gives ${describe(content)} the id ${id}, which cannot be: it would be ${given}`);
  }
}
