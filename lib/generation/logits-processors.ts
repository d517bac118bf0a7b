import { describe, isAbove, isAtLeast, TorchBindError } from '../errors';
import { tensor } from '../tensor/creation';
import { Tensor } from '../tensor/tensor';

/** What changes the logits before a token is chosen, given the tokens so far. The formulas are those of transformers. */
export interface LogitsOptions {
  /** Makes tokens of the prompt and of the text so far less likely, above 1 (Keskar et al. 2019). Default 1. */
  repetitionPenalty?: number;
  /** Subtracted from the logits of tokens that were generated already. Default 0. */
  presencePenalty?: number;
  /** Subtracted for each time that a token was generated already. Default 0. */
  frequencyPenalty?: number;
  /** No sequence of this many tokens occurs twice, including the prompt. Default 0, which allows all. */
  noRepeatNgramSize?: number;
  /** Added to the logits of tokens, by id. -Infinity excludes a token. */
  logitBias?: Readonly<Record<number, number>>;
  /** Sequences of token ids that are never completed. */
  badWords?: readonly (readonly number[])[];
  /** Tokens to generate before a stop token may come. Default 0. */
  minNewTokens?: number;
  /**
   * A function of yours that changes the logits after all others: it gets them, float32 (1, V), and the tokens so far, prompt
   * included, and gives logits of the same shape. transformers' `logits_processor`. Tokens are then computed on the thread that called.
   */
  logitsProcessor?: LogitsProcessor;
}

/** Changes the logits before each token is drawn. */
export type LogitsProcessor = (logits: Tensor, tokens: readonly number[]) => Tensor;

export const logitsOptionNames = [
  'repetitionPenalty',
  'presencePenalty',
  'frequencyPenalty',
  'noRepeatNgramSize',
  'logitBias',
  'badWords',
  'minNewTokens',
  'logitsProcessor',
] as const;

/** Applies `LogitsOptions` in the order in which transformers' `generate` does. */
export class LogitsProcessors {
  /** Whether no processor applies. */
  readonly isEmpty: boolean;
  private readonly options: Required<Omit<LogitsOptions, 'logitsProcessor'>>;
  private readonly custom: LogitsProcessor | undefined;
  private readonly biases: readonly (readonly [number, number])[];

  /** @throws ERR_TORCHBIND_INVALID_ARGUMENT */
  constructor(
    { logitsProcessor, ...options }: LogitsOptions,
    private readonly stopTokens: readonly number[],
    private readonly vocabSize: number,
  ) {
    const all = {
      repetitionPenalty: 1,
      presencePenalty: 0,
      frequencyPenalty: 0,
      noRepeatNgramSize: 0,
      logitBias: {},
      badWords: [],
      minNewTokens: 0,
      ...Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)),
    };
    const { repetitionPenalty, presencePenalty, frequencyPenalty, noRepeatNgramSize, logitBias } = all;
    const { badWords, minNewTokens } = all;
    const isPositive = isAbove(repetitionPenalty, 0) && repetitionPenalty < Infinity;
    check(isPositive, 'repetitionPenalty', repetitionPenalty, 'a finite number above 0');
    for (const [name, value] of Object.entries({ presencePenalty, frequencyPenalty }))
      check(Number.isFinite(value), name, value, 'a finite number');
    for (const [name, value] of Object.entries({ noRepeatNgramSize, minNewTokens }))
      check(Number.isSafeInteger(value) && isAtLeast(value, 0), name, value, 'an integer of at least 0');
    const isRecord = typeof logitBias === 'object' && logitBias !== null && !Array.isArray(logitBias);
    check(isRecord, 'logitBias', logitBias, 'an object of numbers by token id');
    this.biases = Object.entries(logitBias as Record<string, number>).map(([id, bias]) => {
      this.checkId(Number(id), 'logitBias');
      check(typeof bias === 'number' && bias < Infinity, `logitBias[${id}]`, bias, 'a number below Infinity');
      return [Number(id), bias] as const;
    });
    check(Array.isArray(badWords), 'badWords', badWords, 'a list of lists of token ids');
    for (const word of badWords as readonly unknown[]) {
      check(Array.isArray(word) && word.length > 0, 'badWords', word, 'a list of lists of token ids, none empty');
      for (const id of word as readonly unknown[]) this.checkId(id, 'badWords');
    }
    const isFunction = logitsProcessor === undefined || typeof logitsProcessor === 'function';
    check(isFunction, 'logitsProcessor', logitsProcessor, 'a function of logits and tokens');
    this.options = all;
    this.custom = logitsProcessor;
    this.isEmpty =
      logitsProcessor === undefined &&
      repetitionPenalty === 1 &&
      presencePenalty === 0 &&
      frequencyPenalty === 0 &&
      noRepeatNgramSize === 0 &&
      this.biases.length === 0 &&
      badWords.length === 0 &&
      (minNewTokens === 0 || stopTokens.length === 0);
  }

  /**
   * The changed logits, (1, V) float32.
   *
   * @param tokens the prompt and what was generated
   * @param generated how many of them were generated
   */
  apply(logits: Tensor, tokens: readonly number[], generated: number): Tensor {
    const { repetitionPenalty } = this.options;
    let changed = addTo(logits.to('float32'), this.biases);
    if (repetitionPenalty !== 1) changed = penalize(changed, tokens, repetitionPenalty);
    changed = addTo(changed, this.penalties(generated === 0 ? [] : tokens.slice(-generated)));
    const excluded = [...new Set(this.excluded(tokens, generated))];
    if (excluded.length > 0) changed = changed.indexFill(-1, ids(excluded, changed), -Infinity);
    return this.custom === undefined ? changed : this.customized(this.custom, changed, tokens);
  }

  private customized(custom: LogitsProcessor, logits: Tensor, tokens: readonly number[]): Tensor {
    const changed: unknown = custom(logits, [...tokens]);
    const isLogits = changed instanceof Tensor && String(changed.shape) === String(logits.shape);
    const got = changed instanceof Tensor ? `a tensor of shape [${changed.shape.join(', ')}]` : describe(changed);
    if (!isLogits)
      throw new TorchBindError(
        `logitsProcessor must return a tensor of the shape of the logits, [${logits.shape.join(', ')}], got ${got}. The function must not be async.`,
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    return changed.to('float32');
  }

  private penalties(written: readonly number[]): [number, number][] {
    const { presencePenalty, frequencyPenalty } = this.options;
    if (presencePenalty === 0 && frequencyPenalty === 0) return [];
    const counts = new Map<number, number>();
    for (const id of written) counts.set(id, (counts.get(id) ?? 0) + 1);
    return [...counts].map(([id, count]) => [id, -(presencePenalty + frequencyPenalty * count)]);
  }

  private *excluded(tokens: readonly number[], generated: number): Generator<number, void, undefined> {
    const { noRepeatNgramSize: size, badWords, minNewTokens } = this.options;
    if (size > 0) {
      const end = tokens.slice(tokens.length - size + 1);
      for (let i = 0; i + size <= tokens.length; i++)
        if (end.every((id, j) => tokens[i + j] === id)) yield tokens[i + size - 1]!;
    }
    for (const word of badWords) {
      const before = word.slice(0, -1);
      const start = tokens.length - before.length;
      if (start >= 0 && before.every((id, j) => tokens[start + j] === id)) yield word[before.length]!;
    }
    if (generated < minNewTokens) yield* this.stopTokens;
  }

  private checkId(id: unknown, name: string): void {
    const isId = Number.isInteger(id) && isAtLeast(id, 0) && (id as number) < this.vocabSize;
    check(isId, `an id of ${name}`, id, `from 0 to ${this.vocabSize - 1}`);
  }
}

/** Divides positive logits of the tokens by the penalty and multiplies negative ones. */
function penalize(logits: Tensor, tokens: readonly number[], penalty: number): Tensor {
  const index = ids([...new Set(tokens)], logits).unsqueeze(0); // (1, N)
  const own = logits.gather(-1, index);
  return logits.scatter(-1, index, own.mul(penalty).where(own.lt(0), own.div(penalty)));
}

function addTo(logits: Tensor, changes: readonly (readonly [number, number])[]): Tensor {
  if (changes.length === 0) return logits;
  const index = changes.map(([id]) => id);
  const values = tensor([changes.map(([, value]) => value)], { dtype: 'float32', device: logits.device }); // (1, N)
  return logits.indexAdd(-1, ids(index, logits), values);
}

function ids(list: readonly number[], { device }: Tensor): Tensor {
  return tensor([...list], { dtype: 'int64', device });
}

function check(valid: boolean, name: string, value: unknown, expected: string): void {
  if (valid) return;
  throw new TorchBindError(`${name} must be ${expected}, got ${describe(value)}`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
