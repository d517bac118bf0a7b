/** Runs of two ranks under torchrun, of which one is killed now and then. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import path from 'node:path';
import { freePort, pythonInterpreter, rankEnvironment } from './ranks';

export interface Said {
  type: 'start' | 'step' | 'save' | 'end';
  rank: number;
  pid: number;
  step: number;
  weights?: number[];
}

export interface Run {
  status: number | null;
  /** What the ranks said, in the order in which it came. */
  said: Said[];
  kills: number;
  stderr: string;
}

/** Starts a program as two ranks of torchrun. */
export async function startTorchrun(
  program: readonly string[],
  { maxRestarts = 0, cwd }: { maxRestarts?: number; cwd?: string } = {},
): Promise<ChildProcessWithoutNullStreams> {
  const [{ command, env }, port] = [await pythonInterpreter(), await freePort()];
  const place = [`--max-restarts=${maxRestarts}`, '--master-addr=127.0.0.1', `--master-port=${port}`];
  const { RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT, ...outer } = rankEnvironment(0, 2, 0);
  void [RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT];
  const options = ['--no-python', '--nproc-per-node=2', '--monitor-interval=0.1', ...place];
  const args = ['-m', 'torch.distributed.run', ...options, process.execPath, ...program];
  return spawn(command, args, { cwd, env: { ...outer, ...env } });
}

/** @param kill asked at every line: true kills the rank that said it */
export async function underTorchrun(root: string, maxSteps: number, kill: (said: Said) => boolean): Promise<Run> {
  const program = [path.join(__dirname, 'children/restarted.cjs'), root, String(maxSteps)];
  const child = await startTorchrun(program, { maxRestarts: 60 });
  const run: Run = { status: null, said: [], kills: 0, stderr: '' };
  let rest = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop()!;
    for (const line of lines.filter((each) => each.startsWith('{'))) {
      const said = JSON.parse(line) as Said;
      run.said.push(said);
      if (said.type === 'end' || !kill(said)) continue;
      run.kills++;
      try {
        process.kill(said.pid, 'SIGKILL');
      } catch {
        // It has ended by itself.
      }
    }
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => (run.stderr += text));
  run.status = await new Promise((resolve) => child.on('close', resolve));
  return run;
}

/** What is wrong with a run; undefined where nothing is. */
export function faultOf({ status, said, stderr }: Run, maxSteps: number, weights?: number[]): string | undefined {
  if (status !== 0) return `torchrun ended with ${status}\n${stderr.slice(-3000)}`;
  const ends = said.filter(({ type }) => type === 'end');
  if (ends.length < 2 || ends.some(({ step }) => step !== maxSteps)) return `ends: ${JSON.stringify(ends)}`;
  let saved = 0;
  for (const { type, step } of said) {
    if (type === 'save') saved = step;
    else if (type === 'start' && step < saved) return `began at step ${step}, but ${saved} was saved`;
  }
  const expected = JSON.stringify(weights ?? ends[0]!.weights);
  return ends.every((end) => JSON.stringify(end.weights) === expected) ? undefined : 'the weights differ';
}
