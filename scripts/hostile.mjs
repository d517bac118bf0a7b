#!/usr/bin/env node
// npm run hostile: how torchbind meets damaged and mutated checkpoints, in figures.
//
//   npm run hostile                      every truncation, every flipped bit, 5,000 mutated files
//   npm run hostile -- --files 1000000   that many mutated files; --seed N begins elsewhere
//   npm run hostile -- --parse --files N  gives them to the parsers alone and to inspect, from memory, several times faster
//   npm run hostile -- --guided --seconds N  fuzzes the parsers by V8's coverage of them
//   npm run hostile -- --bombs           memory and time that small files which ask for much get
//
// Mutated files are loaded in child processes, in batches: a crash costs one batch, and names the seed that it began with.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { inRoot } from './steps.mjs';

const BATCH = 20_000;

const { values } = parseArgs({
  options: {
    files: { type: 'string', default: '5000' },
    seed: { type: 'string', default: '1' },
    parse: { type: 'boolean', default: false },
    guided: { type: 'boolean', default: false },
    bombs: { type: 'boolean', default: false },
    seconds: { type: 'string', default: '60' },
    child: { type: 'string' },
    scratch: { type: 'string' },
  },
});

function attacks(name) {
  const require = createRequire(import.meta.url);
  require('./ts-require.cjs');
  return require(inRoot(`test/attacks/${name}.ts`));
}

async function child() {
  const { runMutations, runParses, runTruncations, runBitFlips } = attacks('campaign');
  const file = path.join(values.scratch, 'hostile.pt');
  const jobs = {
    mutations: () => runMutations(file, Number(values.seed), Number(values.files)),
    parses: () => runParses(Number(values.seed), Number(values.files)),
    truncations: () => runTruncations(file),
    flips: () => runBitFlips(file),
  };
  process.stdout.write(JSON.stringify(await jobs[values.child]()));
}

function inChild(job, scratch, seed = 1, files = 0) {
  const args = [fileURLToPath(import.meta.url), '--child', job, '--scratch', scratch];
  const { stdout, stderr, status, signal } = spawnSync(
    process.execPath,
    [...args, '--seed', String(seed), '--files', String(files)],
    { encoding: 'utf8', maxBuffer: 2 ** 28 },
  );
  if (status === 0) return JSON.parse(stdout);
  throw new Error(`${job} from seed ${seed} ended with ${signal ?? `status ${status}`}\n${stderr}`);
}

async function guided() {
  const { runGuided } = attacks('guided');
  const print = ({ finds, ...figures }) => console.log(JSON.stringify({ ...figures, finds: finds.length }));
  const figures = await runGuided(Number(values.seconds), Number(values.seed), print);
  print(figures);
  for (const find of figures.finds) console.log(find);
  process.exitCode = figures.finds.length === 0 ? 0 : 1;
}

async function detonate() {
  const { runBombs } = attacks('detonate');
  let good = true;
  for (const { name, mode, overMb, allowedMb, ms, outcome } of runBombs()) {
    console.log(
      `${overMb.toFixed(0).padStart(5)} MB beyond the file's size, ${ms.toFixed(0).padStart(5)} ms: ${name}, ${mode}: ${outcome}`,
    );
    good &&= overMb < allowedMb && ms < 5000;
  }
  process.exitCode = good ? 0 : 1;
}

function main() {
  const scratch = mkdtempSync(path.join(tmpdir(), 'torchbind-hostile-'));
  try {
    const cut = inChild('truncations', scratch);
    console.log(`cut at every byte: ${cut.typed} of ${cut.files} are typed errors`);
    const flips = inChild('flips', scratch);
    console.log(
      `every single bit of a zip flipped: ${flips.files} files, ${flips.refused} refused, ${flips.same} load the same value, ${flips.different} load another`,
    );
    const failed = mutate(scratch);
    process.exitCode = cut.typed === cut.files && flips.different === 0 && !failed ? 0 : 1;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function mutate(scratch) {
  const total = Number(values.files);
  const sum = { files: 0, refused: 0, loaded: 0, slowestMs: 0, growthMb: 0, crashes: [], untyped: [], slow: [] };
  for (let done = 0; done < total; done += BATCH) {
    const seed = Number(values.seed) + done;
    try {
      const part = inChild(values.parse ? 'parses' : 'mutations', scratch, seed, Math.min(BATCH, total - done));
      for (const key of ['files', 'refused', 'loaded']) sum[key] += part[key];
      for (const key of ['slowestMs', 'growthMb']) sum[key] = Math.max(sum[key], part[key]);
      for (const key of ['untyped', 'slow']) sum[key].push(...part[key]);
    } catch (error) {
      sum.crashes.push(error.message);
    }
    console.log(
      `${sum.files} mutated files: ${sum.refused} refused, ${sum.loaded} loaded, ${sum.untyped.length} other errors, ` +
        `${sum.crashes.length} crashes, ${sum.slow.length} over 1 s (slowest ${sum.slowestMs.toFixed(0)} ms), ` +
        `memory at most ${sum.growthMb.toFixed(0)} MB more`,
    );
  }
  for (const problem of [...sum.crashes, ...sum.untyped, ...sum.slow].slice(0, 20)) console.log(problem);
  return sum.crashes.length + sum.untyped.length + sum.slow.length > 0;
}

if (values.child) await child();
else if (values.guided) await guided();
else if (values.bombs) await detonate();
else main();
