import { zeros } from '../tensor/creation';
import { cat } from '../tensor/generated/functions';
import type { Tensor } from '../tensor/tensor';
import { Context } from './context';
import type { FoundSequence, SearchRequest, TokenLogprobs, TokenSink } from './decoder';
import type { GPTModel } from '../models/gpt-model';
import { logprobsOf } from './logprobs';
import { Sampler } from './sampler';
import { Search } from './search';
import type { Waiting } from './sequence';

interface Row {
  context: Context;
  promptLength: number;
  logprobs: TokenLogprobs[];
  hasEnded: boolean;
}

/**
 * Several texts for each prompt, whose tokens are drawn at once from one generator, as a batch in PyTorch draws them. A text that
 * has ended is drawn for until all have: the numbers of the others do not depend on it.
 */
export class SampleGroup extends Search {
  private prompts: Context[];
  private rows: Row[] = [];
  private readonly sampler: Sampler;
  private readonly stopTokens: ReadonlySet<number>;
  private remaining: number;

  constructor(
    model: GPTModel,
    private readonly request: SearchRequest,
    sink: TokenSink,
    waiting: Set<Waiting>,
  ) {
    super(model, sink, waiting);
    const { prompts, sampling, contextShift, stopTokens = [], maxNewTokens } = request;
    this.sampler = new Sampler(sampling, model.device, model.config.vocabSize, stopTokens);
    this.prompts = prompts.map((prompt) => new Context(model, prompt, contextShift, maxNewTokens));
    this.stopTokens = new Set(stopTokens);
    this.remaining = maxNewTokens;
  }

  protected *contexts(): Iterable<Context> {
    yield* this.prompts;
    for (const { context } of this.rows) yield context;
  }

  step(): FoundSequence[] | undefined {
    const logits = this.rows.length === 0 ? this.begin() : this.forward(this.writing().map(({ context }) => context));
    this.push(logits);
    this.remaining--;
    if (this.remaining > 0 && this.writing().length > 0) return undefined;
    return this.rows.map(({ context, promptLength, logprobs }) => ({
      tokens: context.tokens.slice(promptLength),
      ...(this.request.logprobs === undefined ? {} : { logprobs }),
    }));
  }

  /** The rows of each prompt, and the logits of all (S, V). */
  private begin(): Tensor {
    const { returned } = this.request;
    const logits = this.forward(this.prompts); // (P, V)
    this.rows = this.prompts.flatMap((context) => {
      const { length: promptLength } = context.tokens;
      return Array.from({ length: returned }, (_, i) => ({
        context: i === 0 ? context : context.fork(),
        promptLength,
        logprobs: [],
        hasEnded: false,
      }));
    });
    this.prompts = [];
    return logits.repeatInterleave(returned, 0);
  }

  private writing(): Row[] {
    return this.rows.filter(({ hasEnded }) => !hasEnded);
  }

  /** @param logits of the rows that have not ended, (W, V) */
  private push(logits: Tensor): void {
    const { logprobs: alternatives } = this.request;
    const writing = this.writing();
    const processed = writing.map(({ context: { tokens }, promptLength }, i) =>
      this.sampler.process(logits.narrow(0, i, 1), tokens, tokens.length - promptLength),
    );
    let next = 0;
    const nothing = zeros([1, logits.size(-1)], { device: logits.device });
    const all = this.rows.map(({ hasEnded }) => (hasEnded ? nothing : processed[next++]!));
    const tokens = this.sampler.chooseRows(cat(all, 0));
    next = 0;
    for (const [i, row] of this.rows.entries()) {
      if (row.hasEnded) continue;
      const token = tokens[i]!;
      const own = logits.narrow(0, next++, 1);
      if (alternatives !== undefined) row.logprobs.push(logprobsOf(own, token, alternatives));
      row.context.push(token);
      row.hasEnded = this.stopTokens.has(token);
      if (row.hasEnded) row.context.dispose();
    }
  }
}
