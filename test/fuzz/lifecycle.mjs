// The ends of workers and of processes, many times over. test/native/lifecycle.test.ts runs each a few times.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const children = fileURLToPath(new URL('../native/children/', import.meta.url));

/** Every way in which test/native/children/exit.cjs can end, and its exit status. */
export const EXITS = {
  ...{ end: 0, exit: 3, throw: 1, rejection: 1, 'pending-read': 0, 'pending-write': 0, 'exit-pending': 0 },
  ...{ 'in-scope': 0, 'from-worker': 0, 'kept-graph': 0, 'exit-handler': 0, 'busy-worker': 0 },
};

/** Starts and terminates workers with work in flight, in one process. Gives what went wrong: nothing, as should be. */
export async function endWorkers(cycles) {
  const run = await runChild('terminate.cjs', [String(cycles)]);
  const isClean = run.signal === null && run.status === 0 && run.stdout.trim() === `terminated ${cycles}`;
  return isClean ? [] : [{ kind: 'workers', ...run }];
}

/** Ends a process in each of the ways, `runs` times. Gives every run that did not end as it should. */
export async function endProcesses(runs, onProgress) {
  const wrong = [];
  for (let i = 0; i < runs; i++) {
    for (const [way, status] of Object.entries(EXITS)) {
      const run = await runChild('exit.cjs', [way]);
      const isClean = run.signal === null && run.status === status && (status === 1 || run.stderr === '');
      if (!isClean) wrong.push({ kind: 'exit', way, ...run });
    }
    onProgress?.(i + 1);
  }
  return wrong;
}

function runChild(name, args) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [children + name, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text));
    child.on('close', (status, signal) => resolve({ status, signal, stdout, stderr: stderr.slice(-2000) }));
  });
}
