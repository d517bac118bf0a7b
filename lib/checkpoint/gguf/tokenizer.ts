import { TorchBindError } from '../../errors';
import { bool, floats, ints, type MetadataValue, text, texts, u32 } from '../../formats/gguf/format';
import { isPlainObject } from '../../objects';
import { HuggingFaceTokenizer, huggingFaceJson, type Tokenizer } from '../../tokenizers';
import { mapInSlices, runInSlices } from '../../workers/slices';

/** llama.cpp's kinds of tokens. */
const Kind = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** What llama.cpp calls the ways in which byte-level BPE cuts a text, by their regular expressions. */
const cuts: readonly (readonly [name: string, pattern: string])[] = [
  [
    'llama-bpe',
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  ],
  [
    'qwen2',
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  ],
];

type Json = Record<string, unknown>;

/** Two tokens that become one. */
type Merge = string | [string, string];

/** What a vocabulary says, of either kind. */
interface Vocabulary {
  model: 'gpt2' | 'llama';
  /** How texts are cut, for `gpt2`. */
  pre: string;
  addsSpace: boolean;
}

/**
 * The metadata of a tokenizer.
 *
 * @param rows of the model's embedding: ids without a token are named as padding
 * @param ids of special tokens that a config.json gives, such as `eos_token_id`
 * @throws ERR_TORCHBIND_CONVERT for a tokenizer that llama.cpp does not have
 */
export async function ggufTokenizer(
  tokenizer: Tokenizer | null,
  rows: number,
  ids: Readonly<Record<string, unknown>>,
): Promise<Map<string, MetadataValue>> {
  if (tokenizer === null) return new Map([['tokenizer.ggml.model', text('no_vocab')]]);
  const given = tokenizer.kind === 'char' ? undefined : await huggingFaceJson(tokenizer);
  if (given === undefined) throw refuse(`a tokenizer of the kind '${tokenizer.kind}'`);
  return runInSlices(metadataOf(tokenizer, given as Json, rows, ids));
}

function* metadataOf(
  tokenizer: Tokenizer,
  json: Json,
  rows: number,
  ids: Readonly<Record<string, unknown>>,
): Generator<void, Map<string, MetadataValue>, void> {
  const model = json.model as Json;
  const vocabulary = vocabularyOf(json, model);
  const isLlama = vocabulary.model === 'llama';
  const merges = model.merges as readonly Merge[];
  const tokens: string[] = new Array<string>(rows);
  const kinds = new Array<number>(rows).fill(Kind.unused);
  const vocab = model.vocab as Record<string, number>;
  yield;
  const known = Object.keys(vocab);
  yield;
  yield* mapInSlices(known, (token) => {
    const id = vocab[token]!;
    tokens[id] = token;
    kinds[id] = isLlama && /^<0x[0-9A-F]{2}>$/.test(token) ? Kind.byte : Kind.normal;
  });
  const unknown = model.unk_token;
  for (const { id, content, special } of (json.added_tokens ?? []) as {
    id: number;
    content: string;
    special?: boolean;
  }[]) {
    tokens[id] = content;
    kinds[id] = special === true ? (content === unknown ? Kind.unknown : Kind.control) : Kind.userDefined;
  }
  yield* mapInSlices(kinds, (_, id) => (tokens[id] ??= `[PAD${id}]`));
  const scores = isLlama ? yield* scoresOf(tokens, merges) : [];
  const pairs = yield* mapInSlices(merges, (pair) => (typeof pair === 'string' ? pair : pair.join(' ')));
  const metadata = new Map<string, MetadataValue>([
    ['tokenizer.ggml.model', text(vocabulary.model)],
    ['tokenizer.ggml.pre', text(vocabulary.pre)],
    ['tokenizer.ggml.tokens', texts(tokens)],
    ...(isLlama ? [['tokenizer.ggml.scores', floats(scores)] as const] : []),
    ['tokenizer.ggml.token_type', ints(kinds)],
    ...(isLlama ? [] : [['tokenizer.ggml.merges', texts(pairs)] as const]),
    ['tokenizer.ggml.add_space_prefix', bool(vocabulary.addsSpace)],
  ]);
  addSpecialTokens(metadata, tokenizer, json, tokens, ids);
  addTemplates(metadata, tokenizer);
  return metadata;
}

function vocabularyOf(json: Json, model: Json): Vocabulary {
  const parts = flatten(json.pre_tokenizer, 'pretokenizers');
  const { type = 'BPE' } = model;
  if (type !== 'BPE') throw refuse(`a tokenizer whose model is ${String(type)}`);
  if (model.byte_fallback === true) {
    const normalizers = flatten(json.normalizer, 'normalizers');
    const metaspace = parts.find((part) => part.type === 'Metaspace');
    const addsSpace =
      normalizers.some((part) => part.type === 'Prepend') ||
      (metaspace !== undefined && metaspace.prepend_scheme !== 'never' && metaspace.add_prefix_space !== false);
    return { model: 'llama', pre: 'default', addsSpace };
  }
  if (parts.at(-1)?.type !== 'ByteLevel')
    throw refuse('a BPE tokenizer that is neither byte-level nor has byte fallback');
  if (flatten(json.normalizer, 'normalizers').some((part) => part.type !== 'NFC'))
    throw refuse('a byte-level tokenizer that changes texts');
  return { model: 'gpt2', pre: cutOf(parts), addsSpace: parts.at(-1)!.add_prefix_space === true };
}

/** llama.cpp joins the two parts whose token has the highest score: the earlier a merge, the higher. */
function* scoresOf(tokens: readonly string[], merges: readonly Merge[]): Generator<void, number[], void> {
  const rank = new Map<string, number>();
  yield* mapInSlices(merges, (pair, i) => {
    const token = (typeof pair === 'string' ? pair.split(' ') : pair).join('');
    if (!rank.has(token)) rank.set(token, i);
  });
  return yield* mapInSlices(tokens, (token) => -(rank.get(token) ?? merges.length));
}

function cutOf(parts: readonly Json[]): string {
  const [first, ...rest] = parts;
  if (rest.length === 0 && first?.use_regex !== false) return 'gpt-2';
  const pattern = (first?.pattern as Json | undefined)?.Regex;
  const found = cuts.find(([, regex]) => regex === pattern);
  if (found !== undefined && rest.length === 1 && rest[0]!.use_regex === false) return found[0];
  const isSmolLm = first?.type === 'Digits' && first.individual_digits === true && rest[0]?.use_regex !== false;
  if (isSmolLm && rest.length === 1) return 'smollm';
  throw refuse('a byte-level tokenizer that splits text differently from GPT-2, Llama 3, Qwen 2 and SmolLM');
}

function addSpecialTokens(
  metadata: Map<string, MetadataValue>,
  tokenizer: Tokenizer,
  json: Json,
  tokens: readonly string[],
  given: Readonly<Record<string, unknown>>,
): void {
  const named = tokenizer instanceof HuggingFaceTokenizer ? tokenizer.specialTokens : {};
  const idOf = (name: string): number | undefined => {
    const id = named[name] === undefined ? given[`${name}_id`] : tokens.indexOf(named[name]);
    const one: unknown = Array.isArray(id) ? id[0] : id;
    return typeof one === 'number' && one >= 0 && one < tokens.length ? one : undefined;
  };
  const bos = idOf('bos_token') ?? tokenizer.endId;
  const found = {
    bos,
    eos: idOf('eos_token') ?? tokenizer.endId,
    unknown: idOf('unk_token'),
    padding: idOf('pad_token'),
  };
  for (const [name, id] of Object.entries(found))
    if (id !== undefined) metadata.set(`tokenizer.ggml.${name}_token_id`, u32(id));
  metadata.set('tokenizer.ggml.add_bos_token', bool(bos !== undefined && putsFirst(json, tokens[bos]!)));
}

/** Whether the post-processor puts a token before each text. */
function putsFirst(json: Json, token: string): boolean {
  return flatten(json.post_processor, 'processors').some(({ type, single }) => {
    const [first] = (Array.isArray(single) ? single : []) as { SpecialToken?: { id?: unknown } }[];
    return type === 'TemplateProcessing' && first?.SpecialToken?.id === token;
  });
}

function addTemplates(metadata: Map<string, MetadataValue>, { chatTemplate }: Tokenizer): void {
  if (chatTemplate === undefined) return;
  const named = typeof chatTemplate === 'string' ? { default: chatTemplate } : chatTemplate;
  const others = Object.keys(named).filter((name) => name !== 'default');
  if (named.default !== undefined) metadata.set('tokenizer.chat_template', text(named.default));
  if (others.length > 0) metadata.set('tokenizer.chat_templates', texts(others));
  for (const name of others) metadata.set(`tokenizer.chat_template.${name}`, text(named[name]!));
}

function flatten(part: unknown, member: string): Json[] {
  if (!isPlainObject(part)) return [];
  const { [member]: parts } = part as Json;
  return Array.isArray(parts) ? parts.flatMap((each) => flatten(each, member)) : [part as Json];
}

function refuse(what: string): TorchBindError {
  return new TorchBindError(
    `GGUF: llama.cpp has no ${what.replace(/^a /, '')}. Set gpt.tokenizer = null to write the model without it, and encode elsewhere.`,
    'ERR_TORCHBIND_CONVERT',
  );
}
