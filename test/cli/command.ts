/** Runs the built command as a user does: a process of its own, in a directory of its own. */
import { spawn, spawnSync } from 'node:child_process';
import path from 'node:path';
import { repositoryRoot } from '../helpers/python';

export const program = path.join(repositoryRoot, 'dist/cli/main.js');

export interface Ran {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Variables of the caller that the command would understand are left out. */
export function environment(variables: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { PATH, HOME, XDG_CACHE_HOME, TORCHBIND_LIBTORCH } = process.env;
  return { PATH, HOME, XDG_CACHE_HOME, TORCHBIND_LIBTORCH, OMP_NUM_THREADS: '1', ...variables };
}

/** A runner of the command in a directory. */
export function commandIn(cwd: string): (args: string[], variables?: NodeJS.ProcessEnv) => Ran {
  return (args, variables = {}) => {
    const options = { cwd, env: environment(variables), encoding: 'utf8', timeout: 120_000 } as const;
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], options);
    return { status, stdout, stderr };
  };
}

/** Starts the command and sends it a signal once its output has the text. */
export async function interrupt(cwd: string, args: string[], text: string, signal: NodeJS.Signals): Promise<Ran> {
  const child = spawn(process.execPath, [program, ...args], { cwd, env: environment({}) });
  let stdout = '';
  let stderr = '';
  let sent = false;
  child.stderr.setEncoding('utf8').on('data', (piece: string) => (stderr += piece));
  child.stdout.setEncoding('utf8').on('data', (piece: string) => {
    stdout += piece;
    if (sent || !stdout.includes(text)) return;
    sent = true;
    child.kill(signal);
  });
  const status = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { status, stdout, stderr };
}
