import { createRequire } from 'node:module';
import { CheckpointCode, CheckpointError, describe, TorchBindError } from '../errors';
import type { CheckedTokenizer } from './hugging-face-json';
import type { Json } from './json-checks';
import { exactWhiteSpace } from './regex';
import { escapePattern } from './special-tokens';

/** Byte-level BPE by the @huggingface/tokenizers package, made to split texts exactly as Python does. What is used of it: */
export interface Engine {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
  pre_tokenizer: EngineSplitter;
}

interface EngineSplitter {
  config?: Json;
  pattern?: RegExp;
  tokenizers?: EngineSplitter[];
}

/** @throws CheckpointError ERR_TORCHBIND_CHECKPOINT_FORMAT for what the package refuses */
export function makeEngine({ json }: CheckedTokenizer, where: string): Engine {
  const { Tokenizer: EngineClass } = createRequire(__filename)('@huggingface/tokenizers') as {
    Tokenizer: new (json: object, config: object) => Engine;
  };
  try {
    const engine = new EngineClass(
      {
        added_tokens: json.added_tokens ?? [],
        normalizer: json.normalizer ?? null,
        pre_tokenizer: exact(json.pre_tokenizer as Json),
        post_processor: null,
        decoder: null,
        model: { ...(json.model as object), type: 'BPE' },
      },
      {},
    );
    useExactPattern(engine.pre_tokenizer);
    return engine;
  } catch (error) {
    const reason = error instanceof Error ? error.message : describe(error);
    throw new CheckpointError(`${where}: ${reason}`, CheckpointCode.format, { cause: error });
  }
}

/**
 * The same in regular expressions, which the package applies as Python does. Its own Digits knows those of ASCII only, and its
 * Split by a text keeps what should be removed.
 */
function exact(part: Json): Json {
  if (part.type === 'Sequence') return { ...part, pretokenizers: (part.pretokenizers as Json[]).map(exact) };
  if (part.type === 'Digits') return split(part.individual_digits === true ? '\\p{N}' : '\\p{N}+');
  const text = part.type === 'Split' ? (part.pattern as Json).String : undefined;
  return typeof text === 'string' ? { ...part, pattern: { Regex: escapePattern(text) } } : part;
}

function split(regex: string): Json {
  return { type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false };
}

/** The package splits by JavaScript's white space, which is not Unicode's: see `exactWhiteSpace`. */
function useExactPattern(splitter: EngineSplitter): void {
  splitter.tokenizers?.forEach(useExactPattern);
  if (splitter.config?.type !== 'ByteLevel') return;
  if (!(splitter.pattern instanceof RegExp)) {
    throw new TorchBindError('@huggingface/tokenizers is of another version than this one was written for.');
  }
  splitter.pattern = exactWhiteSpace(splitter.pattern.source);
}
