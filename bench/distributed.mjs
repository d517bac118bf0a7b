// What data-parallel training costs: all-reduce next to Python's, and a step of DistributedDataParallel next to one without communication.
// Two ranks on this machine, one thread each, variants in turn in the same processes.
//
//   node bench/distributed.mjs [rounds]
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { availableParallelism, loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { pythonEnvironment } from '../scripts/python-env.mjs';

const rounds = Number(process.argv[2] ?? 9);
const elements = 10_745_088; // the parameters of a GPT of 6 layers of width 384
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

const python = `
import sys, time, torch, torch.distributed as dist
dist.init_process_group("gloo")
x = torch.ones(${elements})
times = []
for i in range(${rounds} + 2):
    dist.barrier(); t = time.perf_counter(); dist.all_reduce(x); times.append(time.perf_counter() - t)
times = sorted(times[2:])
if dist.get_rank() == 0: print(times[len(times) // 2] * 1000, times[0] * 1000)
dist.destroy_process_group()`;

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Runs a program as two ranks; gives what rank 0 printed. */
async function twoRanks(command, args, env) {
  const port = String(await freePort());
  const ends = [0, 1].map((rank) => {
    const place = { RANK: String(rank), WORLD_SIZE: '2', MASTER_ADDR: '127.0.0.1', MASTER_PORT: port };
    const child = spawn(command, args, {
      env: { ...process.env, OMP_NUM_THREADS: '1', ...env, ...place },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let text = '';
    child.stdout.on('data', (chunk) => (text += chunk));
    return new Promise((resolve, reject) =>
      child.on('close', (status) => (status === 0 ? resolve(text) : reject(new Error(`rank ${rank} failed`)))),
    );
  });
  return (await Promise.all(ends))[0];
}

async function asRank() {
  const { distributed, GPT, manualSeed, nn, ones, randint, setNumThreads, tidy } = await import('../dist/index.mjs');
  setNumThreads(1);
  await distributed.initProcessGroup();
  const timed = async (run) => {
    await distributed.barrier();
    const [began, cpu] = [performance.now(), process.cpuUsage()];
    await run();
    const { user, system } = process.cpuUsage(cpu);
    return [performance.now() - began, (user + system) / 1000];
  };
  const x = ones(elements);
  const reduces = [];
  for (let i = 0; i < rounds + 2; i++) reduces.push((await timed(() => distributed.allReduce(x)))[0]);
  manualSeed(1);
  const config = { vocabSize: 65, blockSize: 256, nLayer: 6, nHead: 6, nEmbd: 384, dropout: 0 };
  const model = new GPT(config);
  const parallel = await nn.parallel.DistributedDataParallel.create(model);
  const [idx, targets] = [randint(65, [2, 256]), randint(65, [2, 256])];
  const step = () =>
    tidy(() => {
      model.zeroGrad();
      parallel.forward(idx, targets).loss.backward();
    });
  const steps = { 'no communication': [], DistributedDataParallel: [] };
  for (let i = 0; i < rounds + 2; i++) {
    const [alone, together] = [await timed(() => parallel.noSync(step)), await timed(step)];
    if (i < 2) continue;
    steps['no communication'].push(alone);
    steps.DistributedDataParallel.push(together);
  }
  if (distributed.rank() === 0) process.stdout.write(JSON.stringify({ reduces: reduces.slice(2), steps }));
  await distributed.destroyProcessGroup();
}

async function main() {
  const { reduces, steps } = JSON.parse(
    await twoRanks(process.execPath, [fileURLToPath(import.meta.url), String(rounds), 'rank'], {}),
  );
  const { command, env } = pythonEnvironment();
  const [pythonMedian, pythonBest] = (await twoRanks(command, ['-c', python], env)).trim().split(' ').map(Number);
  const row = (name, middle, best) => {
    const rate = ((elements * 4) / 1e6 / best).toFixed(2);
    console.log(
      `  ${name.padEnd(8)} median ${middle.toFixed(1)} ms, best ${best.toFixed(1)} ms (${rate} GB/s of buffer)`,
    );
  };
  console.log(
    `two ranks of one thread, ${availableParallelism()} cores, load ${loadavg()[0].toFixed(1)}; ${rounds} rounds`,
  );
  console.log(`all-reduce of ${elements} float32 (43 MB), gloo on loopback`);
  row('Node', median(reduces), Math.min(...reduces));
  row('Python', pythonMedian, pythonBest);
  console.log('forward and backward of a GPT of 10.7 M parameters, batch 2 x 256 on each rank (rank 0)');
  for (const [name, values] of Object.entries(steps)) {
    const [wall, cpu] = [0, 1].map((i) => median(values.map((value) => value[i])));
    console.log(`  ${name.padEnd(24)} ${wall.toFixed(0)} ms, ${cpu.toFixed(0)} ms of CPU`);
  }
}

await (process.argv[3] === 'rank' ? asRank() : main());
