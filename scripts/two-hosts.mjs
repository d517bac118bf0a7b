// Two network namespaces stand for two machines: torchrun's agent on each, a Node rank on one and a Python rank on the other. They train
// a model with DistributedDataParallel and end with the same weights. Linux with `ip`, `unshare` and `nsenter`: node scripts/two-hosts.mjs
import { spawn } from 'node:child_process';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { pythonEnvironment } from './python-env.mjs';
import { inRoot, main, runQuietly, SetupError } from './steps.mjs';

const self = fileURLToPath(import.meta.url);
const addresses = ['10.77.0.1', '10.77.0.2'];

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
  const jobs = [];
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
    jobs.push(agent(0, 29511, () => [process.execPath, path.join(children, 'rank.cjs'), 'mixed']));
    jobs.push(agent(1, 29511, (python) => [python, path.join(children, 'rank.py'), 'mixed'], host.pid));
    const statuses = await Promise.all(jobs.map(({ ended }) => ended));
    const weights = jobs.map(({ output }) => output.split('\n').find((line) => line.startsWith('[[')));
    if (statuses.some((status) => status !== 0) || weights.includes(undefined))
      throw new SetupError(`training failed:\n${jobs.map(({ output }) => output).join('\n')}`);
    const [a, b] = weights.map((line) => JSON.parse(line).flat(Infinity));
    const difference = Math.max(...a.map((value, i) => Math.abs(value - b[i])));
    if (a.length !== b.length || !(difference < 1e-12)) throw new SetupError(`weights differ by ${difference}`);
    console.log(`trained: ${a.length} weights of the Node and the Python rank differ by ${difference}`);
  } finally {
    for (const { child } of jobs) child.kill();
    host.kill();
  }
}

await main(async ([mode]) => {
  if (mode === '--inside') return inside();
  // As its own user namespace, no right of the machine is needed; the network ends with the script.
  const child = spawn('unshare', ['-n', '-r', process.execPath, self, '--inside'], { stdio: 'inherit' });
  return new Promise((resolve, reject) => child.on('error', reject).on('close', (status) => resolve(status ?? 1)));
});
