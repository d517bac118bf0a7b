/** Starts ranks of one group, Node and Python programs, on loopback. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { repositoryRoot } from '../helpers/python';

export interface Rank {
  /** Name of the part of the child's program to run. */
  part: string;
  language?: 'node' | 'python';
  env?: NodeJS.ProcessEnv;
}

export interface Ended {
  status: number | null;
  signal: NodeJS.Signals | null;
  /** The lines of JSON that it printed. */
  said: unknown[];
  stderr: string;
}

const children = path.join(__dirname, 'children');

/** A port that nobody listens on now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject).listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

/** The variables that a launcher sets, of a machine where the tests may run inside another launcher. */
export function rankEnvironment(rank: number, size: number, port: number): NodeJS.ProcessEnv {
  const outer = Object.entries(process.env).filter(
    ([name]) => !/^(TORCHELASTIC|GROUP_|ROLE_|LOCAL_|TORCH_DIST)/.test(name),
  );
  return {
    ...Object.fromEntries(outer),
    RANK: String(rank),
    WORLD_SIZE: String(size),
    MASTER_ADDR: '127.0.0.1',
    MASTER_PORT: String(port),
    GLOO_SOCKET_IFNAME: process.platform === 'linux' ? 'lo' : 'lo0',
    OMP_NUM_THREADS: '1',
  };
}

interface Python {
  command: string;
  env: NodeJS.ProcessEnv;
}

export async function pythonInterpreter(): Promise<Python> {
  const script = pathToFileURL(path.join(repositoryRoot, 'scripts/python-env.mjs')).href;
  const { pythonEnvironment } = (await import(script)) as { pythonEnvironment: () => Python };
  return pythonEnvironment();
}

/** Starts them and gives the processes, to kill for instance, with the promises of their ends. */
export async function startRanks(
  ranks: readonly Rank[],
  args: readonly string[] = [],
): Promise<{ child: ChildProcess; ended: Promise<Ended> }[]> {
  const port = await freePort();
  const python = ranks.some(({ language }) => language === 'python') ? await pythonInterpreter() : undefined;
  return ranks.map(({ part, language = 'node', env }, rank) => {
    const launched = { ...rankEnvironment(rank, ranks.length, port), ...env };
    const child =
      language === 'node'
        ? spawn(process.execPath, [path.join(children, 'rank.cjs'), part, ...args], { env: launched })
        : spawn(python!.command, [path.join(children, 'rank.py'), part, ...args], {
            env: { ...launched, ...python!.env },
          });
    return { child, ended: endOf(child) };
  });
}

export function endOf(child: ChildProcess): Promise<Ended> {
  return new Promise((resolve, reject) => {
    let stdout = '';
    let stderr = '';
    child.stdout!.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr!.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.on('error', reject);
    child.on('close', (status, signal) => {
      const lines = stdout.split('\n').filter((line) => /^[[{"\d]/.test(line));
      resolve({ status, signal, stderr, said: lines.map((line) => JSON.parse(line) as unknown) });
    });
  });
}

/** What each rank said. @throws with its stderr where one failed */
export async function runRanks(ranks: readonly Rank[], args: readonly string[] = []): Promise<unknown[][]> {
  const ends = await Promise.all((await startRanks(ranks, args)).map(({ ended }) => ended));
  for (const [rank, { status, signal, stderr }] of ends.entries())
    if (status !== 0) throw new Error(`rank ${rank} ended with ${signal ?? `status ${status}`}\n${stderr}`);
  return ends.map(({ said }) => said);
}
