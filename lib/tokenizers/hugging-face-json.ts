import { CheckpointCode, CheckpointError, describe } from '../errors';
import { maxId } from './special-tokens';
import type { HuggingFaceJson } from './tokenizer';

/**
 * Checks Hugging Face's tokenizer.json, which comes from anywhere, before anything is made of it: what it says must be what
 * this library computes as the Python package does, within bounds that keep loading and encoding short. All else is
 * refused, with the reason.
 */

/** How deep the parts of a tokenizer may nest, and how long a regular expression or a text in them may be. */
const maxDepth = 32;
const maxTextLength = 4096;
const maxSequence = 16;

export type Json = Record<string, unknown>;

export interface AddedToken {
  id: number;
  content: string;
  special: boolean;
}

/** What a tokenizer.json says, checked. */
export interface CheckedTokenizer {
  json: HuggingFaceJson;
  vocab: ReadonlyMap<string, number>;
  addedTokens: readonly AddedToken[];
  /** Whether it brings regular expressions of its own. */
  hasPatterns: boolean;
}

/** Whether a JSON value is a tokenizer of Hugging Face's, right or wrong. */
export function isHuggingFaceJson(json: unknown): json is Json {
  return isObject(json) && isObject(json.model) && !('token_kind' in json);
}

/** @throws CheckpointError naming the part that is wrong, or that is not supported */
export function checkHuggingFaceJson(json: unknown, where: string): CheckedTokenizer {
  const refuse = (reason: string): never => {
    throw new CheckpointError(`${where}: ${reason}`, CheckpointCode.format);
  };
  if (!isObject(json)) return refuse(`expected a tokenizer, got ${describe(json)}`);
  checkDepth(json, refuse);
  const model = isObject(json.model) ? json.model : refuse(`model must be an object, got ${describe(json.model)}`);
  const vocab = checkBpe(model, refuse);
  const addedTokens = checkAddedTokens(json.added_tokens ?? [], vocab, refuse);
  checkNormalizer(json.normalizer ?? null, refuse);
  const parts = preTokenizers(json.pre_tokenizer ?? null, refuse);
  if (parts.at(-1)?.type !== 'ByteLevel') refuse(onlyByteLevel('pre_tokenizer', json.pre_tokenizer));
  const decoder = json.decoder;
  if (!isObject(decoder) || decoder.type !== 'ByteLevel') refuse(onlyByteLevel('decoder', decoder));
  return { json, vocab, addedTokens, hasPatterns: parts.some(({ type }) => type === 'Split') };
}

type Refuse = (reason: string) => never;

function onlyByteLevel(part: string, found: unknown): string {
  const type = isObject(found) ? describe(found.type) : describe(found);
  return (
    `its ${part} is ${type}; only byte-level tokenizers, such as those of GPT-2, Llama 3 and Qwen, are read. ` +
    `Open the model without it, with { tokenizer: null }, and encode elsewhere.`
  );
}

/** Everything but the vocabulary, which is checked to be flat. */
function checkDepth(json: Json, refuse: Refuse): void {
  const { model, ...rest } = json;
  const { vocab: _vocab, merges: _merges, ...settings } = isObject(model) ? model : {};
  const stack: [value: unknown, depth: number][] = [[{ ...rest, settings }, 0]];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const [value, depth] = next;
    if (typeof value !== 'object' || value === null) continue;
    if (depth > maxDepth) refuse(`it nests deeper than ${maxDepth}`);
    for (const item of Object.values(value)) stack.push([item, depth + 1]);
  }
}

function checkBpe(model: Json, refuse: Refuse): Map<string, number> {
  const type = model.type ?? 'BPE';
  if (type !== 'BPE') {
    refuse(
      `its model is ${typeof type === 'string' ? type.slice(0, 50) : describe(type)}, which would not be computed as in ` +
        "Python; only byte-pair encoding, 'BPE', is read. GPT.load(path, { tokenizer }) takes a tokenizer of your own, or null",
    );
  }
  for (const name of ['dropout', 'continuing_subword_prefix', 'end_of_word_suffix', 'byte_fallback']) {
    if (model[name]) refuse(`its model has ${name} ${describe(model[name])}, which is not supported`);
  }
  const vocab = checkVocabulary(model.vocab, 'model.vocab', refuse);
  const unknown = model.unk_token ?? null;
  if (unknown !== null && !vocab.has(unknown as string))
    refuse(`unk_token ${describe(unknown)} is not in its vocabulary`);
  checkMerges(model.merges, vocab, refuse);
  return vocab;
}

/** A vocabulary: `{ token: id }`, with each id once. */
export function checkVocabulary(value: unknown, name: string, refuse: Refuse): Map<string, number> {
  if (!isObject(value)) return refuse(`${name} must be an object of tokens and ids, got ${describe(value)}`);
  const vocab = new Map<string, number>();
  const tokens = new Map<number, string>();
  for (const [token, id] of Object.entries(value)) {
    if (!isId(id)) return refuse(`${name} gives ${describe(token)} the id ${describe(id)}; ids are integers from 0 on`);
    const other = tokens.get(id);
    if (other !== undefined) refuse(`${name} gives ${describe(other)} and ${describe(token)} the same id, ${id}`);
    tokens.set(id, token);
    vocab.set(token, id);
  }
  return vocab;
}

function checkMerges(merges: unknown, vocab: ReadonlyMap<string, number>, refuse: Refuse): void {
  if (!Array.isArray(merges)) return refuse(`model.merges must be a list, got ${describe(merges)}`);
  const inText = typeof merges[0] === 'string';
  (merges as unknown[]).forEach((merge, i) => {
    const pair = typeof merge === 'string' && inText ? merge.split(' ') : merge;
    if (!Array.isArray(pair) || pair.length !== 2 || !pair.every((part) => typeof part === 'string' && part !== ''))
      refuse(`model.merges[${i}] must be two tokens, got ${describe(merge)}`);
    const [left, right] = pair as [string, string];
    for (const token of [left, right, left + right]) {
      if (!vocab.has(token))
        refuse(`model.merges[${i}] needs the token ${describe(token)}, which is not in the vocabulary`);
    }
  });
}

function checkAddedTokens(value: unknown, vocab: ReadonlyMap<string, number>, refuse: Refuse): AddedToken[] {
  if (!Array.isArray(value)) return refuse(`added_tokens must be a list, got ${describe(value)}`);
  const taken = new Map(Array.from(vocab, ([token, id]) => [id, token]));
  return (value as unknown[]).map((token, i) => {
    const fields = isObject(token) ? token : {};
    const { id, content, special = false } = fields;
    if (!isId(id) || !isText(content) || typeof special !== 'boolean')
      return refuse(`added_tokens[${i}] needs an id and a content of 1 to ${maxTextLength} characters`);
    for (const name of ['single_word', 'lstrip', 'rstrip']) {
      if (fields[name]) refuse(`added_tokens[${i}], ${describe(content)}, has ${name}, which is not supported`);
    }
    const other = taken.get(id);
    if (other !== undefined && other !== content)
      refuse(`${describe(other)} and ${describe(content)} have the same id, ${id}`);
    taken.set(id, content);
    return { id, content, special };
  });
}

const normalizers = ['NFC', 'NFD', 'NFKC', 'NFKD'];

function checkNormalizer(value: unknown, refuse: Refuse): void {
  for (const { type } of flatten(value, 'normalizers', refuse)) {
    if (!normalizers.includes(type as string))
      refuse(`its normalizer is ${describe(type)}; only ${normalizers.join(', ')} are supported`);
  }
}

function preTokenizers(value: unknown, refuse: Refuse): Json[] {
  const parts = flatten(value, 'pretokenizers', refuse);
  parts.forEach((part, i) => {
    if (part.type === 'Split') checkSplit(part, refuse);
    else if (part.type === 'ByteLevel' && i !== parts.length - 1) refuse('a ByteLevel pre_tokenizer must be the last');
    else if (part.type !== 'ByteLevel' && part.type !== 'Digits') refuse(onlyByteLevel('pre_tokenizer', part));
  });
  return parts;
}

function checkSplit({ pattern, behavior, invert = false }: Json, refuse: Refuse): void {
  const { Regex: regex, String: text } = isObject(pattern) ? pattern : {};
  if (!isText(regex ?? text)) refuse(`the pattern of a Split must be a text of 1 to ${maxTextLength} characters`);
  if (behavior === 'Removed' || (behavior === 'Isolated' && invert === false)) return;
  refuse(`a Split has behavior ${describe(behavior)} and invert ${describe(invert)}, which is not supported`);
}

/** The parts of a Sequence, or the one that it is. */
function flatten(value: unknown, member: string, refuse: Refuse): Json[] {
  if (value === null) return [];
  if (!isObject(value)) return refuse(`expected an object with a type, got ${describe(value)}`);
  if (value.type !== 'Sequence') return [value];
  const parts = value[member];
  if (!Array.isArray(parts) || parts.length > maxSequence)
    return refuse(`a Sequence needs a list of at most ${maxSequence} ${member}, got ${describe(parts)}`);
  return (parts as unknown[]).flatMap((part) => flatten(part, member, refuse));
}

export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isId(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < maxId;
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= maxTextLength;
}
