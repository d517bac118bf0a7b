/** Runs the tools that set-up needs. */
import { spawn } from 'node:child_process';
import { TorchBindError } from '../errors';

export interface RunOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** Called with each line that the program prints. */
  onLine?: (line: string) => void;
}

/** Runs a program to its end and returns its stdout. A failure carries the end of what it printed. */
export function runProgram(command: string, args: string[], options: RunOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: options.env ?? process.env,
      stdio: ['ignore', 'pipe', 'pipe'],
      windowsHide: true,
    });
    let stdout = '';
    let printed = '';
    const take = (text: string): void => {
      printed += text;
      for (const line of text.split(/\r?\n/)) if (line !== '') options.onLine?.(line);
    };
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      take(text);
    });
    child.stderr.setEncoding('utf8').on('data', take);
    child.on('error', (error) => reject(programError(command, error.message, error)));
    child.on('close', (status, signal) => {
      if (status === 0) resolve(stdout);
      else
        reject(programError([command, ...args].join(' '), `${signal ?? `status ${status}`}\n${printed.slice(-8000)}`));
    });
  });
}

function programError(what: string, how: string, cause?: unknown): TorchBindError {
  return new TorchBindError(
    `${what} failed: ${how}`,
    'ERR_TORCHBIND_PROGRAM',
    cause === undefined ? undefined : { cause },
  );
}
