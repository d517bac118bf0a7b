import { existsSync } from 'node:fs';
import path from 'node:path';
import { Worker, type WorkerOptions } from 'node:worker_threads';
import { packageRoot } from '../native/loader';

/** What a worker thread of this package runs, by the name of its module below lib/. */
export type WorkerModule = `${string}/${string}`;

/**
 * Starts a worker thread that runs a module of this package. It does not keep the process alive.
 *
 * Where there can be no worker, the caller does the work on its own thread: the process is told once why.
 *
 * @returns undefined where there can be no worker
 */
export function startWorker(
  name: WorkerModule,
  options: Pick<WorkerOptions, 'workerData' | 'transferList'> = {},
): Worker | undefined {
  const file = path.join(packageRoot, 'dist', `${name}.js`);
  const reason = whyNoWorker(file);
  if (reason !== undefined) return warn(reason);
  try {
    // Without this process's flags: they may load code that the worker does not need, such as a test runner's.
    const worker = new Worker(file, { ...options, execArgv: [], name: `torchbind ${name}` });
    worker.unref();
    return worker;
  } catch (error) {
    return warn((error as Error).message);
  }
}

function whyNoWorker(file: string): string | undefined {
  const { permission } = process as { permission?: { has(scope: string): boolean } };
  if (permission?.has('worker') === false)
    return 'the permission model of Node forbids them (--allow-worker allows them)';
  if (process.versions.bun !== undefined) return 'Bun does not load addons in workers reliably';
  if (!existsSync(file)) return `${file} is missing`;
  return undefined;
}

let isWarned = false;

function warn(reason: string): undefined {
  if (isWarned) return undefined;
  isWarned = true;
  process.emitWarning(
    `Worker threads are not available: ${reason}. What torchbind computes in the background elsewhere blocks the event loop here.`,
    { code: 'TORCHBIND_NO_WORKER' },
  );
  return undefined;
}
