/**
 * Fuzzing that V8's own coverage guides: inputs that reach blocks of the parsers which nothing reached before become seeds of
 * further mutation. What libFuzzer does for native code, for parsers that are TypeScript.
 */
import { Session } from 'node:inspector';
import { CheckpointError } from '../../lib/errors';
import { look, parse } from './campaign';
import { mutateBytes, mutatePickle, originals, Random, wrapped } from './mutate';

export interface GuidedFigures {
  executions: number;
  seeds: number;
  blocks: number;
  /** Blocks that the first seeds reach. */
  blocksAtFirst: number;
  slowestMs: number;
  peakGrowthMb: number;
  /** Inputs in base64 with what they did: an error of another class, or more than a second. */
  finds: string[];
}

interface Block {
  scripts: { url: string; functions: { ranges: { startOffset: number; endOffset: number; count: number }[] }[] }[];
}

/** Blocks of the parsers that ran since it was asked last. */
class Coverage {
  private readonly session = new Session();
  private readonly known = new Set<string>();

  constructor() {
    this.session.connect();
    this.session.post('Profiler.enable');
    this.session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  get size(): number {
    return this.known.size;
  }

  /** How many are new; they are known then, where `learn` holds. */
  fresh(learn = true): number {
    let fresh = 0;
    this.session.post('Profiler.takePreciseCoverage', (error, answer) => {
      if (error !== null) throw error;
      for (const { url, functions } of (answer as unknown as { result: Block['scripts'] }).result) {
        if (!/lib.(formats|pickle)./.test(url)) continue;
        for (const { ranges } of functions)
          for (const { startOffset, endOffset, count } of ranges) {
            const block = `${url}:${startOffset}-${endOffset}:${Math.min(count, 1)}`;
            if (count === 0 || this.known.has(block)) continue;
            fresh++;
            if (learn) this.known.add(block);
          }
      }
    });
    return fresh;
  }

  end(): void {
    this.session.disconnect();
  }
}

interface Target {
  name: string;
  seeds: Buffer[];
  wrap: (input: Buffer) => Buffer;
}

/** Whole files, and streams within whole containers. */
function targets(): Target[] {
  const same = (input: Buffer): Buffer => input;
  return [
    ...Object.entries(originals).map(([name, seed]) => ({ name, seeds: [seed], wrap: same })),
    ...Object.entries(wrapped).map(([name, { seed, wrap }]) => ({ name, seeds: [seed], wrap })),
  ];
}

const batchSize = 64;
const maxInput = 4096;

/** Fuzzes for so many seconds. */
export async function runGuided(
  seconds: number,
  seed: number,
  report: (figures: GuidedFigures) => void,
): Promise<GuidedFigures> {
  const random = new Random(seed);
  const coverage = new Coverage();
  const all = targets();
  const figures: GuidedFigures = {
    executions: 0,
    seeds: 0,
    blocks: 0,
    blocksAtFirst: 0,
    slowestMs: 0,
    peakGrowthMb: 0,
    finds: [],
  };
  for (const { seeds, wrap } of all) await execute(wrap(seeds[0]!), figures);
  coverage.fresh();
  figures.blocksAtFirst = coverage.size;
  const before = process.memoryUsage().rss;
  const end = Date.now() + seconds * 1000;
  for (let batch = 0; Date.now() < end; batch++) {
    const target = all[batch % all.length]!;
    const inputs = Array.from({ length: batchSize }, () => mutant(target, random));
    for (const input of inputs) await execute(target.wrap(input), figures);
    // All at once, and one by one only if there is something new: to ask takes longer than to parse.
    if (coverage.fresh(false) > 0) {
      for (const input of inputs) {
        await execute(target.wrap(input), figures);
        if (coverage.fresh() > 0) target.seeds.push(input);
      }
    }
    figures.seeds = all.reduce((sum, { seeds }) => sum + seeds.length, 0);
    figures.blocks = coverage.size;
    figures.peakGrowthMb = Math.max(figures.peakGrowthMb, (process.memoryUsage().rss - before) / 2 ** 20);
    if (batch % 500 === 499) report(figures);
  }
  coverage.end();
  return figures;
}

function mutant({ name, seeds }: Target, random: Random): Buffer {
  let input = random.pick(seeds);
  if (random.below(8) === 0) {
    const other = random.pick(seeds);
    input = Buffer.concat([
      input.subarray(0, random.below(input.length + 1)),
      other.subarray(random.below(other.length + 1)),
    ]);
  }
  for (let times = random.below(3); times >= 0; times--)
    input = name === 'pickle' ? mutatePickle(input, random) : mutateBytes(input, random);
  return input.subarray(0, maxInput);
}

async function execute(file: Buffer, figures: GuidedFigures): Promise<void> {
  const began = process.cpuUsage();
  for (const outcome of [await parse(file), await look(file)]) {
    if (outcome === undefined || outcome instanceof CheckpointError) continue;
    note(figures, file, String((outcome as Error).stack ?? outcome));
  }
  const ms = process.cpuUsage(began).user / 1000;
  figures.executions++;
  figures.slowestMs = Math.max(figures.slowestMs, ms);
  if (ms > 1000) note(figures, file, `${ms.toFixed(0)} ms`);
}

function note({ finds }: GuidedFigures, file: Buffer, what: string): void {
  const text = `${what}\n${file.toString('base64')}`;
  if (finds.length < 20 && !finds.some((known) => known.split('\n')[0] === text.split('\n')[0])) finds.push(text);
}
