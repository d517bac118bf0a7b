import { tensor } from '../tensor/creation';
import { cat } from '../tensor/generated/functions';
import type { Tensor } from '../tensor/tensor';
import { Context } from './context';
import type { Beams, FoundSequence, SearchRequest, TokenSink } from './decoder';
import type { GPTModel } from '../models/gpt-model';
import { Sampler } from './sampler';
import { Search } from './search';
import type { Waiting } from './sequence';

interface Beam {
  context: Context;
  /** Sum of the log-probabilities of its tokens. */
  score: number;
}

/** A beam with one more token. */
interface Candidate {
  parent: number;
  token: number;
  score: number;
  /** Whether the text ends with it. */
  ends: boolean;
}

/**
 * Beam search: at each step the likeliest texts are kept, and those that end are ranked by their scores. Which are kept, when the
 * search ends, and how scores are rounded (float32) is as in transformers' `generate` with `num_beams`.
 */
export class BeamSearch extends Search {
  private beams: Beam[];
  /** Texts that have ended, the best first; not more than beams. */
  private ended: Required<Pick<FoundSequence, 'tokens' | 'score'>>[] = [];
  private readonly settings: Beams;
  private readonly sampler: Sampler;
  private readonly stopTokens: ReadonlySet<number>;
  private readonly promptLength: number;
  private readonly returned: number;
  private readonly maxNewTokens: number;
  /** Whether a beam may still become better than the texts that have ended. */
  private mayImprove = true;

  constructor(model: GPTModel, request: SearchRequest, sink: TokenSink, waiting: Set<Waiting>) {
    super(model, sink, waiting);
    const { prompts, sampling, contextShift, stopTokens = [], maxNewTokens, beams, returned } = request;
    this.sampler = new Sampler(sampling, model.device, model.config.vocabSize, stopTokens);
    this.settings = beams!;
    this.stopTokens = new Set(stopTokens);
    this.promptLength = prompts[0]!.length;
    this.returned = returned;
    this.maxNewTokens = maxNewTokens;
    this.beams = [{ context: new Context(model, prompts[0]!, contextShift, maxNewTokens), score: 0 }];
  }

  protected *contexts(): Iterable<Context> {
    for (const { context } of this.beams) yield context;
  }

  step(): FoundSequence[] | undefined {
    const length = this.beams[0]!.context.tokens.length - this.promptLength + 1; // with this step's token
    const candidates = this.candidates(length);
    this.collect(candidates, length);
    if (candidates.every(({ ends }) => ends)) return this.result();
    this.continue(candidates.filter(({ ends }) => !ends));
    this.mayImprove &&= this.couldImprove(length);
    const { count, earlyStopping } = this.settings;
    const isFull = this.ended.length === count;
    return this.mayImprove && !(isFull && earlyStopping === true) ? undefined : this.result();
  }

  /** The likeliest texts with one more token, the likeliest first: enough that as many as beams do not end. */
  private candidates(length: number): Candidate[] {
    const { count } = this.settings;
    const scores = this.scores(); // (beams, V)
    const V = scores.size(1);
    const most = Math.max(2, 1 + this.stopTokens.size) * count;
    const [values, indices] = scores.flatten().topk(Math.min(most, scores.numel()));
    const numbers = values.tolist() as number[];
    return (indices.tolist() as (number | bigint)[]).map((index, i) => {
      const token = Number(index) % V;
      const ends = this.stopTokens.has(token) || length >= this.maxNewTokens;
      return { parent: Math.floor(Number(index) / V), token, score: numbers[i]!, ends };
    });
  }

  /** The score of each beam with each token after it, (beams, V). */
  private scores(): Tensor {
    const { promptLength, beams } = this;
    const logits = this.forward(beams.map(({ context }) => context));
    const logprobs = logits.logSoftmax(-1);
    const processed = beams.map(({ context: { tokens } }, i) =>
      this.sampler.process(logprobs.narrow(0, i, 1), tokens, tokens.length - promptLength),
    );
    const sums = tensor(
      beams.map(({ score }) => [score]),
      { dtype: 'float32', device: logits.device },
    );
    return cat(processed, 0).add(sums);
  }

  /** Takes up the texts that end among the likeliest. */
  private collect(candidates: readonly Candidate[], length: number): void {
    const { count, lengthPenalty, earlyStopping } = this.settings;
    if (!this.mayImprove || (this.ended.length === count && earlyStopping === true)) return;
    const penalty = Math.fround(length ** lengthPenalty);
    const ended = candidates.slice(0, count).filter(({ ends }) => ends);
    for (const { parent, token, score } of ended) {
      const tokens = [...this.beams[parent]!.context.tokens.slice(this.promptLength), token];
      this.ended.push({ tokens, score: Math.fround(score / penalty) });
    }
    this.ended.sort((a, b) => b.score - a.score);
    this.ended.length = Math.min(this.ended.length, count);
  }

  /** The beams of the next step. */
  private continue(candidates: readonly Candidate[]): void {
    const before = this.beams;
    const next = candidates.slice(0, this.settings.count);
    const used = new Set<number>();
    // A beam's own context goes to the first that follows it; further ones have copies, made before it changes.
    const contexts = next.map(({ parent }) => {
      const { context } = before[parent]!;
      if (used.has(parent)) return context.fork();
      used.add(parent);
      return context;
    });
    before.forEach(({ context }, i) => used.has(i) || context.dispose());
    this.beams = next.map(({ token, score }, i) => {
      contexts[i]!.push(token);
      return { context: contexts[i]!, score };
    });
  }

  private couldImprove(length: number): boolean {
    const { count, lengthPenalty, earlyStopping } = this.settings;
    if (this.ended.length < count) return true;
    const best = earlyStopping === 'never' && lengthPenalty > 0 ? this.maxNewTokens : length;
    const hoped = Math.fround(this.beams[0]!.score / Math.fround(best ** lengthPenalty));
    return hoped > this.ended.at(-1)!.score;
  }

  private result(): FoundSequence[] {
    return this.ended.slice(0, this.returned);
  }
}
