#!/usr/bin/env node
// How torchbind meets damaged and mutated checkpoints, in figures: `npm run hostile -- --help`.
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

const HELP = `Usage: npm run hostile -- [options]

Gives torchbind checkpoints that are damaged or made to do harm, and prints what became of them. The status is 1
where a file had its way: another error than CheckpointError, a crash, a hang, too much memory, a silently changed value.

  (no option)      cut at every byte, every single bit flipped, 5,000 mutated files
  --files N        that many mutated files
  --parse          give them to the parsers and to inspect alone, from memory, which is several times faster
  --guided         mutate by what V8's coverage shows to be new ground in the parsers, for --seconds N (60)
  --seed N         begin elsewhere (1)
  --bombs          small files that ask for much: memory and time of reading, mapping and inspecting each, in a process
                   of its own, at full size and at the largest size that loads. Needs Linux and 'npm run build'
  --only NAMES     comma-separated bombs, by any part of their names: --only memo,tar
  --help           this text

Memory counts beyond that before and the file's size; 64 MB is the bound, 1000 ms of computing that of the time. Each run
with the same seed makes the same files, and a report names the seed.
`;

const { values } = options();

function options() {
  try {
    return parseArgs({
      options: {
        files: { type: 'string', default: '5000' },
        seed: { type: 'string', default: '1' },
        parse: { type: 'boolean', default: false },
        guided: { type: 'boolean', default: false },
        bombs: { type: 'boolean', default: false },
        only: { type: 'string' },
        seconds: { type: 'string', default: '60' },
        help: { type: 'boolean', short: 'h', default: false },
        child: { type: 'string' },
        scratch: { type: 'string' },
      },
    });
  } catch (error) {
    process.stderr.write(`${error.message}\n\n${HELP}`);
    process.exit(2);
  }
}

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
  const { bombs } = attacks('bombs');
  const wanted = values.only?.split(',') ?? [''];
  const names = Object.keys(bombs).filter((name) => wanted.some((part) => name.includes(part.trim())));
  if (names.length === 0) throw new Error(`No bomb is named like '${values.only}': ${Object.keys(bombs).join(', ')}`);
  let good = true;
  for await (const { name, mode, overMb, allowedMb, ms, allowedMs, outcome } of runBombs({ names, fitted: true })) {
    const isGood = overMb < allowedMb && ms < allowedMs;
    console.log(
      `${overMb.toFixed(0).padStart(5)} MB beyond the file's size, ${ms.toFixed(0).padStart(5)} ms: ${name}, ${mode}: ` +
        `${outcome}${isGood ? '' : ' (TOO MUCH)'}`,
    );
    good &&= isGood;
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

if (values.help) process.stdout.write(HELP);
else if (values.child) await child();
else if (values.guided) await guided();
else if (values.bombs) await detonate();
else main();
