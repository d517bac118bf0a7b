import { describe } from '../errors';
import { maxId } from './special-tokens';

/** What the parts of a tokenizer.json have in common, and how they are checked. */

export type Json = Record<string, unknown>;

export interface AddedToken {
  id: number;
  content: string;
  special: boolean;
}

export type Refuse = (reason: string) => never;

/** How long a regular expression or a text of a tokenizer may be, and how many parts a Sequence may have. */
export const maxTextLength = 4096;
const maxSequence = 16;

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

export function checkMerges(merges: unknown, vocab: ReadonlyMap<string, number>, refuse: Refuse): void {
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

/** The parts of a Sequence, or the one that it is. */
export function flatten(value: unknown, member: string, refuse: Refuse): Json[] {
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

export function isId(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < maxId;
}

export function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= maxTextLength;
}
