import { CheckpointCode, CheckpointError, describe } from '../errors';
import { checkEngineModel, checkEngineParts, needsEngine } from './engine-json';
import {
  type AddedToken,
  checkMerges,
  checkVocabulary,
  flatten,
  isId,
  isObject,
  isText,
  type Json,
  maxTextLength,
  type Refuse,
} from './json-checks';
import type { HuggingFaceJson } from './tokenizer';

/**
 * Checks Hugging Face's tokenizer.json, which comes from anywhere, before anything is made of it: what it says must be what
 * this library computes as the Python package does, within bounds that keep loading and encoding short. All else is
 * refused, with the reason.
 */

/** How deep the parts of a tokenizer may nest. */
const maxDepth = 32;

/** What a tokenizer.json says, checked. */
export interface CheckedTokenizer {
  json: HuggingFaceJson;
  vocab: ReadonlyMap<string, number>;
  addedTokens: readonly AddedToken[];
  /** Whether it brings regular expressions of its own. */
  hasPatterns: boolean;
  /** The decoder, for one that the Rust engine encodes: null for none. Undefined for byte-level BPE. */
  chain?: Json | null;
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
  if (needsEngine(json)) {
    const vocab = checkEngineModel(model, refuse);
    const addedTokens = checkAddedTokens(json.added_tokens ?? [], vocab, refuse);
    return { json, vocab, addedTokens, hasPatterns: false, chain: checkEngineParts(json, refuse) };
  }
  const vocab = checkBpe(model, refuse);
  const addedTokens = checkAddedTokens(json.added_tokens ?? [], vocab, refuse);
  flatten(json.normalizer ?? null, 'normalizers', refuse);
  const parts = preTokenizers(json.pre_tokenizer ?? null, refuse);
  return { json, vocab, addedTokens, hasPatterns: parts.some(({ type }) => type === 'Split') };
}

/** Everything but the vocabulary, which is checked to be flat. */
function checkDepth(json: Json, refuse: Refuse): void {
  const { model, ...rest } = json;
  const { vocab: _vocab, merges: _merges, ...settings } = isObject(model) ? model : {};
  const stack: [value: unknown, depth: number][] = [[{ ...rest, settings }, 0]];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const [value, depth] = next;
    if (typeof value !== 'object' || value === null) continue;
    if (depth > maxDepth) refuse(`it nests deeper than ${maxDepth} levels`);
    for (const item of Object.values(value)) stack.push([item, depth + 1]);
  }
}

function checkBpe(model: Json, refuse: Refuse): Map<string, number> {
  const type = model.type ?? 'BPE';
  if (type !== 'BPE') refuse(`expected a model of type BPE, Unigram, WordPiece or WordLevel, got ${describe(type)}`);
  if (model.dropout) refuse(`its model has dropout ${describe(model.dropout)}, which is not supported`);
  const vocab = checkVocabulary(model.vocab, 'model.vocab', refuse);
  const unknown = model.unk_token ?? null;
  if (unknown !== null && !vocab.has(unknown as string))
    refuse(`unk_token ${describe(unknown)} is not in its vocabulary`);
  checkMerges(model.merges, vocab, refuse);
  return vocab;
}

function checkAddedTokens(value: unknown, vocab: ReadonlyMap<string, number>, refuse: Refuse): AddedToken[] {
  if (!Array.isArray(value)) return refuse(`added_tokens must be a list, got ${describe(value)}`);
  const taken = new Map(Array.from(vocab, ([token, id]) => [id, token]));
  return (value as unknown[]).map((token, i) => {
    const fields = isObject(token) ? token : {};
    const { id, content, special = false } = fields;
    if (!isId(id) || !isText(content) || typeof special !== 'boolean')
      return refuse(`added_tokens[${i}] needs an id and a content of 1 to ${maxTextLength} characters`);
    const other = taken.get(id);
    if (other !== undefined && other !== content)
      refuse(`${describe(other)} and ${describe(content)} have the same id, ${id}`);
    taken.set(id, content);
    return { id, content, special };
  });
}

function preTokenizers(value: unknown, refuse: Refuse): Json[] {
  const parts = flatten(value, 'pretokenizers', refuse);
  for (const part of parts) if (part.type === 'Split') checkSplit(part, refuse);
  return parts;
}

function checkSplit({ pattern }: Json, refuse: Refuse): void {
  const { Regex: regex, String: text } = isObject(pattern) ? pattern : {};
  if (!isText(regex ?? text)) refuse(`the pattern of a Split must be a text of 1 to ${maxTextLength} characters`);
}
