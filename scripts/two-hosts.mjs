// Two network namespaces stand for two machines: torchrun's agent on each, a Node rank on one and a Python rank on the other. First they
// train a model with DistributedDataParallel, and end with the same weights. Then the link between them is cut while a collective runs, and while
// `fit` trains on two Node ranks: both give an error after the timeout. Linux with `ip`, `unshare` and `nsenter`: node scripts/two-hosts.mjs
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { pythonEnvironment } from './python-env.mjs';
import { inRoot, main, runQuietly, SetupError } from './steps.mjs';

const self = fileURLToPath(import.meta.url);
const addresses = ['10.77.0.1', '10.77.0.2'];

/** Milliseconds. Long enough for two ranks that start on a busy machine to find each other. */
const timeout = 20_000;

/** What an error may come later than the timeout: a busy machine wakes a process late. */
const slack = 2000;

const pythonRank = `
import datetime, time, torch, torch.distributed as dist
dist.init_process_group('gloo', timeout=datetime.timedelta(milliseconds=${timeout}))
while True:
    dist.all_reduce(torch.ones(4))
    time.sleep(0.05)
`;

/** A Node rank that works until the link is cut, and says how long it waited for the other rank then. */
async function rankUntilCut(work) {
  const torch = createRequire(self)('../dist/index.js');
  let last = performance.now();
  let count = 0;
  const done = () => {
    last = performance.now();
    if (++count === 4) process.stdout.write('ready\n');
  };
  await torch.distributed.initProcessGroup({ timeout });
  try {
    await (work === 'collectives' ? reduceForEver : fitForEver)(torch, done);
  } catch (error) {
    const { code } = error;
    console.error(error.message);
    const found = { code, milliseconds: Math.round(performance.now() - last) };
    process.stdout.write(`${JSON.stringify(found)}\n`, () => process.exit(3));
  }
}

async function reduceForEver({ distributed, ones }, done) {
  for (;;) {
    await distributed.allReduce(ones(4));
    done();
    await sleep(50);
  }
}

async function fitForEver({ CharTokenizer, GPT }, done) {
  const text = 'the quick brown fox jumps over the lazy dog.\n'.repeat(30);
  const tokenizer = new CharTokenizer([...new Set(text)].sort());
  const config = { vocabSize: tokenizer.vocabSize, blockSize: 8, nLayer: 1, nHead: 2, nEmbd: 8, dropout: 0 };
  const options = { text, batchSize: 2, maxSteps: 1_000_000, evalInterval: 0, seed: 1 };
  for await (const event of new GPT(config, { tokenizer }).fitEvents(options)) if (event.type === 'step') done();
}

/** A program under torchrun's agent on one of the two hosts. */
function agent(host, port, program, second) {
  const python = pythonEnvironment();
  const interface_ = ['tbA', 'tbB'][host];
  const env = { ...process.env, ...python.env, GLOO_SOCKET_IFNAME: interface_, OMP_NUM_THREADS: '1' };
  const torchrun = ['-m', 'torch.distributed.run', '--no-python', '--nnodes', '2', '--nproc-per-node', '1'];
  const where = ['--node-rank', String(host), '--master-addr', addresses[0], '--master-port', String(port)];
  const command = [python.command, ...torchrun, ...where, ...program(python.command)];
  const inside = host === 0 ? [] : ['nsenter', '-t', String(second), '-n'];
  const [first, ...rest] = [...inside, ...command];
  const child = spawn(first, rest, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const job = { child, output: '' };
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (job.output += text));
  job.ended = new Promise((resolve, reject) => child.on('error', reject).on('close', (status) => resolve(status)));
  return job;
}

const ip = (args) => runQuietly(`ip ${args}`, 'ip', args.split(' '));

async function inside() {
  const host = spawn('unshare', ['-n', 'sleep', '600'], { stdio: 'ignore' });
  const directory = mkdtempSync(path.join(tmpdir(), 'two-hosts-'));
  const jobs = [];
  const start = (port, ...programs) => {
    const started = programs.map((program, i) => agent(i, port, program, host.pid));
    jobs.push(...started);
    return started;
  };
  try {
    await sleep(500);
    await ip('link set lo up');
    await ip('link add tbA type veth peer name tbB');
    await ip(`link set tbB netns ${host.pid}`);
    await ip(`addr add ${addresses[0]}/24 dev tbA`);
    await ip('link set tbA up');
    for (const args of ['link set lo up', `addr add ${addresses[1]}/24 dev tbB`, 'link set tbB up'])
      await runQuietly('nsenter', 'nsenter', ['-t', String(host.pid), '-n', 'ip', ...args.split(' ')]);

    const children = inRoot('test/distributed/children');
    await trained(
      start(
        29511,
        () => [process.execPath, path.join(children, 'rank.cjs'), 'mixed'],
        (python) => [python, path.join(children, 'rank.py'), 'mixed'],
      ),
    );
    const program = path.join(directory, 'rank.py');
    writeFileSync(program, pythonRank);
    const node = (work) => () => [process.execPath, self, '--rank', work];
    await cut(
      'a collective',
      start(29512, node('collectives'), (python) => [python, program]),
    );
    await ip('link set tbA up');
    await cut('fit', start(29513, node('fit'), node('fit')));
  } finally {
    for (const { child } of jobs) child.kill();
    host.kill();
    rmSync(directory, { recursive: true, force: true });
  }
}

async function trained(jobs) {
  const statuses = await Promise.all(jobs.map(({ ended }) => ended));
  const weights = jobs.map(({ output }) => output.split('\n').find((line) => line.startsWith('[[')));
  if (statuses.some((status) => status !== 0) || weights.includes(undefined))
    throw new SetupError(`training failed:\n${jobs.map(({ output }) => output).join('\n')}`);
  const [a, b] = weights.map((line) => JSON.parse(line).flat(Infinity));
  const difference = Math.max(...a.map((value, i) => Math.abs(value - b[i])));
  if (a.length !== b.length || !(difference < 1e-12)) throw new SetupError(`weights differ by ${difference}`);
  console.log(`trained: ${a.length} weights of the Node and the Python rank differ by ${difference}`);
}

/** Takes the link away while the ranks work. The first of them is a Node rank, which says what it saw. */
async function cut(what, jobs) {
  const [{ ended }] = jobs;
  for (let i = 0; !jobs[0].output.includes('ready'); i++) {
    if (i > 1200) throw new SetupError(`the ranks did not meet:\n${jobs.map(({ output }) => output).join('\n')}`);
    await sleep(100);
  }
  await ip('link set tbA down');
  await Promise.race([ended, sleep(3 * timeout)]);
  const found = /\{"code":"(\w+)","milliseconds":(\d+)\}/.exec(jobs[0].output);
  if (found === null) throw new SetupError(`no error after the link was cut:\n${jobs[0].output}`);
  const milliseconds = Number(found[2]);
  console.log(`link cut during ${what}: ${found[1]} after ${milliseconds} ms; the timeout is ${timeout} ms`);
  if (found[1] !== 'ERR_TORCHBIND_DISTRIBUTED_TIMEOUT') throw new SetupError('that is another error');
  if (milliseconds > timeout + slack) throw new SetupError('the error came later than the timeout');
  for (const { child } of jobs) child.kill();
}

await main(async ([mode, work]) => {
  if (mode === '--rank') return rankUntilCut(work);
  if (mode === '--inside') return inside();
  // As its own user namespace, no right of the machine is needed; the network ends with the script.
  const child = spawn('unshare', ['-n', '-r', process.execPath, self, '--inside'], { stdio: 'inherit' });
  return new Promise((resolve, reject) => child.on('error', reject).on('close', (status) => resolve(status ?? 1)));
});
