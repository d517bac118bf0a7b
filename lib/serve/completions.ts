import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { Readable } from 'node:stream';
import type { GPT } from '../gpt';
import type { TokenLogprobs } from '../generation/decoder';
import { endIdsOf } from '../generation/end-ids';
import { encodeText } from '../tokenizers';
import type { Answer, Api, Prompt, Usage } from './apis';
import { generatePieces, type Ending, type Piece } from './generation';
import { errorBody, HttpError, toHttpError } from './http-error';
import { merge } from './merge';
import type { ServerMetrics } from './metrics';
import type { Lease, ModelPool } from './model-pool';
import type { Settings } from './options';
import { type Parameters, readParameters, refuse } from './parameters';
import type { Queue } from './queue';

/** Milliseconds to wait for the result of a cancelled stream. */
const LAST_READ = 1000;

/** Text for OpenAI's requests. */
export class Completions {
  constructor(
    private readonly pool: ModelPool,
    private readonly queue: Queue,
    private readonly settings: Settings,
    private readonly metrics: ServerMetrics,
  ) {}

  /** The answer to a request: an object, or a stream of server-sent events. */
  async answer(api: Api, body: unknown, ended: AbortSignal): Promise<object | Readable> {
    const parameters = readParameters(body, this.settings.limits, api.parameters, api.defaultTokens);
    const prompts = api.prompts(body as Readonly<Record<string, unknown>>);
    const sequences = prompts.length * parameters.n;
    const { maxSequences, maxConcurrent } = this.settings.limits;
    const most = Math.min(maxSequences, maxConcurrent);
    if (sequences > most)
      throw refuse(`Expected at most ${most} sequences (prompts times 'n'), got ${sequences}.`, 'n');
    const model = parameters.model ?? this.pool.defaultId;
    if (model === undefined) throw refuse("Expected the name of a model in 'model'.", 'model');
    const job = await this.begin(model, sequences, ended);
    try {
      await job.read(prompts, this.settings.limits.maxPromptTokens);
    } catch (error) {
      job.end();
      throw error;
    }
    if (!parameters.stream) return this.whole(api, job, parameters);
    const options = { objectMode: false, highWaterMark: 16 * 1024 };
    const events = Readable.from(this.events(api, job, parameters), options);
    // Who does not read is not told, and does not keep its place.
    job.signal.addEventListener('abort', () => setTimeout(() => events.destroy(), LAST_READ).unref(), { once: true });
    return events;
  }

  private async begin(model: string, sequences: number, ended: AbortSignal): Promise<Job> {
    const began = performance.now();
    const leave = await this.queue.enter(sequences, ended);
    try {
      const lease = await this.pool.lease(model);
      return new Job(lease, leave, ended, this.settings.limits.requestTimeout, began);
    } catch (error) {
      leave();
      throw error;
    }
  }

  private async whole(api: Api, job: Job, parameters: Parameters): Promise<object> {
    try {
      const texts = job.prompts.flatMap(() =>
        Array.from({ length: parameters.n }, () => ({ text: '', finishReason: '', logprobs: [] as TokenLogprobs[] })),
      );
      for await (const { index, value, done } of merge(this.sequences(job, parameters))) {
        const whole = texts[index]!;
        if (done) whole.finishReason = value.finishReason;
        else {
          whole.text += value.text;
          whole.logprobs.push(...value.logprobs);
        }
      }
      const { tokenizer } = job.gpt;
      const wants = parameters.logprobs !== undefined;
      const wholes = texts.map(({ logprobs, ...text }) => ({
        ...text,
        logprobs: wants ? api.logprobs(tokenizer!, logprobs, 0) : null,
      }));
      return api.whole(answerOf(api, job), wholes, job.usage);
    } finally {
      job.end();
    }
  }

  /** The events of a stream. An error after the start is an event too, because the status has been sent. */
  private async *events(api: Api, job: Job, parameters: Parameters): AsyncGenerator<string, void, undefined> {
    const answer = { ...answerOf(api, job), object: api.chunkObject };
    const usage = parameters.includeUsage ? { usage: null } : {};
    const event = (choice: object): string => toEvent({ ...answer, choices: [choice], ...usage });
    job.hold();
    try {
      const sequences = this.sequences(job, parameters);
      for (const index of sequences.keys()) {
        const opening = api.opening(index);
        if (opening !== undefined) yield event(opening);
      }
      const ends = sequences.map(() => 0);
      for await (const { index, value, done } of merge(sequences)) {
        if (done) yield event(api.closing(index, value.finishReason));
        else {
          const { text, logprobs } = value;
          const wants = parameters.logprobs !== undefined;
          yield event(api.piece(index, text, wants ? api.logprobs(job.gpt.tokenizer!, logprobs, ends[index]!) : null));
          ends[index]! += text.length;
        }
      }
      if (parameters.includeUsage) yield toEvent({ ...answer, choices: [], usage: job.usage });
      yield 'data: [DONE]\n\n';
    } catch (error) {
      const { http, isExpected } = toHttpError(error);
      if (!isExpected && !job.signal.aborted) this.settings.onError(error as Error);
      yield toEvent(errorBody(http));
    } finally {
      job.letGo();
    }
  }

  /** One for each prompt and each of `n`. */
  private sequences(
    job: Job,
    { n, maxTokens, sampling, logprobs, ignoresEnd, stop }: Parameters,
  ): AsyncGenerator<Piece, Ending, undefined>[] {
    const stopTokens = ignoresEnd ? [] : endIdsOf(job.gpt);
    return job.prompts.flatMap((prompt) =>
      Array.from({ length: n }, (_, i) => {
        const seed = sampling.seed === undefined ? {} : { seed: Number(sampling.seed) + i };
        const options = {
          ...sampling,
          ...seed,
          maxNewTokens: maxTokens,
          stop,
          stopTokens,
          ...(logprobs === undefined ? {} : { logprobs }),
          signal: job.signal,
          contextShift: 'half',
        };
        return this.counted(job, generatePieces(job.gpt, prompt, options as never));
      }),
    );
  }

  private async *counted(
    job: Job,
    pieces: AsyncGenerator<Piece, Ending, undefined>,
  ): AsyncGenerator<Piece, Ending, undefined> {
    let isFirst = true;
    try {
      for (;;) {
        const { done, value } = await pieces.next();
        if (isFirst) this.metrics.firstToken(job.began);
        isFirst = false;
        if (done === true) {
          job.generated += value.tokens;
          this.metrics.tokens(job.id, value.tokens);
          return value;
        }
        yield value;
      }
    } finally {
      await pieces.return(undefined as never);
    }
  }
}

/** A request that is being answered: its place in the queue, and its model as it was when it began. */
class Job {
  readonly id: string;
  readonly gpt: GPT;
  readonly step: number | null;
  readonly signal: AbortSignal;
  readonly prompts: ArrayLike<number>[] = [];
  generated = 0;
  private readonly controller = new AbortController();
  private readonly timer: NodeJS.Timeout;
  private isHeld = false;
  private hasEnded = false;

  constructor(
    private readonly lease: Lease,
    private readonly leave: () => void,
    private readonly ended: AbortSignal,
    timeout: number,
    /** When the request came, of `performance.now()`. */
    readonly began: number,
  ) {
    this.id = lease.id;
    this.gpt = lease.gpt;
    this.step = lease.step;
    this.signal = this.controller.signal;
    setMaxListeners(0, this.signal); // one for each sequence
    this.timer = setTimeout(() => this.controller.abort(tooLong(timeout)), timeout);
    ended.addEventListener('abort', this.onEnded, { once: true });
    if (ended.aborted) this.onEnded();
  }

  private readonly onEnded = (): void => {
    this.controller.abort(this.ended.reason);
    if (!this.isHeld) this.end(); // A stream that nobody has begun to read has nothing that ends it.
  };

  /** Turns the prompts into tokens. */
  async read(prompts: readonly ((gpt: GPT) => Prompt)[], most: number): Promise<void> {
    this.hold();
    try {
      for (const promptOf of prompts) this.prompts.push(await tokensOf(this.gpt, promptOf(this.gpt), most));
    } finally {
      this.isHeld = false;
    }
    this.signal.throwIfAborted();
  }

  get usage(): Usage {
    const prompt_tokens = this.prompts.reduce((sum, { length }) => sum + length, 0);
    return { prompt_tokens, completion_tokens: this.generated, total_tokens: prompt_tokens + this.generated };
  }

  /** From now on the caller ends it. */
  hold(): void {
    this.isHeld = true;
  }

  letGo(): void {
    this.isHeld = false;
    this.end();
  }

  end(): void {
    if (this.hasEnded) return;
    this.hasEnded = true;
    clearTimeout(this.timer);
    this.ended.removeEventListener('abort', this.onEnded);
    this.lease.release();
    this.leave();
  }
}

async function tokensOf(
  { tokenizer, config }: GPT,
  prompt: Prompt,
  maxPromptTokens: number,
): Promise<ArrayLike<number>> {
  if (tokenizer === null)
    throw new HttpError(400, 'This model has no tokenizer.', { code: 'no_tokenizer', param: 'model' });
  const most = Math.min(config.blockSize, maxPromptTokens);
  const tokens =
    typeof prompt !== 'string' ? prompt : prompt === '' ? [tokenizer.startId] : await encodeText(tokenizer, prompt);
  if (tokens.length > most) {
    const message = `The prompt has ${tokens.length} tokens, at most ${most} are allowed.`;
    throw new HttpError(400, message, { code: 'context_length_exceeded', param: 'prompt' });
  }
  const { vocabSize } = config;
  const wrong = Array.from(tokens).find((id) => id < 0 || id >= vocabSize);
  if (wrong === undefined) return tokens;
  throw refuse(`The token ids of 'prompt' must be from 0 to ${vocabSize - 1}, got ${wrong}.`, 'prompt');
}

function answerOf(api: Api, { id, step }: Job): Answer {
  return {
    id: `${api.idPrefix}${randomUUID()}`,
    created: Math.floor(Date.now() / 1000),
    model: id,
    // Which weights have answered.
    system_fingerprint: `torchbind-step-${step ?? 'unknown'}`,
  };
}

function toEvent(value: object): string {
  return `data: ${JSON.stringify(value)}\n\n`;
}

function tooLong(milliseconds: number): HttpError {
  const message = `The request took longer than ${milliseconds / 1000} s. Ask for fewer tokens.`;
  return new HttpError(504, message, { code: 'timeout', headers: { 'x-should-retry': 'false' } });
}
