// Runs the sections, each in a process of its own, and prints the table whatever happens.
import { fork } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import path from 'node:path';
import { inRoot, say } from '../steps.mjs';
import { buildAddon, builtFiles } from './build.mjs';
import { inspectPython, isPacked } from './python.mjs';
import { printTable, summaryOf } from './table.mjs';

/** Seconds kept for the table, and for processes to end. */
const RESERVE = 10;
const LEAST_SECONDS = 5;

/** Resolves to the exit status: 0 where every check passed and every section ran to its end. */
export async function check(options) {
  const began = performance.now();
  const elapsed = () => (performance.now() - began) / 1000;
  const left = () => options.budget - RESERVE - elapsed();
  const report = { device: options.device, machine: undefined, rows: [], sections: [] };
  const finish = () => {
    report.seconds = elapsed();
    writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
    printTable(report);
    say(`figures: ${path.resolve(options.json)}`);
  };
  try {
    const python = inspectPython(options.python);
    report.machine = machineOf(python);
    report.rows.push(await buildRow(python, left()));
    for (const section of options.sections) {
      const seconds = Math.min(options.patience * section.seconds, left());
      say(`${section.name}: ${section.title} (at most ${Math.max(0, seconds).toFixed(0)} s)`);
      report.sections.push(await runSection(section, { device: options.device, seconds, python }, report.rows));
    }
  } catch (error) {
    report.rows.push({ section: 'check', name: 'runs', ok: false, note: error.message });
  }
  finish();
  const { failed } = summaryOf(report);
  return failed === 0 ? 0 : 1;
}

async function buildRow(python, seconds) {
  const row = { section: 'build', name: `the addon against PyTorch ${python.torch}` };
  if (!isPacked()) return { ...row, ok: null, note: 'a clone: built by npm run setup' };
  say(`building the addon against PyTorch ${python.torch}`);
  const { seconds: took, problem } = await buildAddon(python, { seconds });
  return {
    ...row,
    ok: problem === undefined,
    measured: `${took.toFixed(0)} s`,
    note: problem ?? builtFiles().join(', '),
  };
}

/** Collects what the section reports until it ends, crashes or is out of time. */
function runSection(section, { device, seconds, python }, rows) {
  const outcome = { name: section.name, seconds: 0, ended: 'whole' };
  const lost = (note) => {
    rows.push({ section: section.name, name: 'runs to its end', ok: false, note });
    outcome.ended = note;
  };
  if (seconds < LEAST_SECONDS) {
    lost('there was no time left for it');
    return outcome;
  }
  return new Promise((resolve) => {
    const began = performance.now();
    const child = fork(inRoot('scripts/gpu-check/section-process.mjs'), [], {
      execArgv: ['--expose-gc'],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      env: environmentFor(python),
      detached: true, // a group of its own, so that what it started ends with it
    });
    let isDone = false;
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      killGroup(child);
    }, 1000 * seconds);
    child.on('error', (error) => lost(error.message));
    child.on('message', (message) => {
      if (message.done) isDone = true;
      else rows.push({ section: section.name, ...message.row });
    });
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      outcome.seconds = (performance.now() - began) / 1000;
      if (timedOut) lost(`it took more than ${seconds.toFixed(0)} s`);
      else if (!isDone) lost(`it ended by ${signal ?? `status ${status}`}`);
      else if (status !== 0) lost(`it ended with ${signal ?? `status ${status}`} after its last check`);
      resolve(outcome);
    });
    child.send({ name: section.name, device, seconds, python }, () => {});
  });
}

function killGroup(child) {
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    child.kill('SIGKILL');
  }
}

function environmentFor(python) {
  return {
    ...process.env,
    TORCHBIND_LIBTORCH: python.root,
    // The addon of the archive was compiled for this very PyTorch, of whichever minor version.
    ...(isPacked() ? { TORCHBIND_BYPASS_VERSION_CHECK: '1' } : {}),
    TORCHBIND_CPU_KERNELS: 'stock', // the CPU's side with the bits of Python
    HF_HUB_OFFLINE: '1',
  };
}

function machineOf(python) {
  const packed = isPacked() ? JSON.parse(readFileSync(inRoot('packed.json'), 'utf8')) : {};
  return {
    cpu: cpus()[0]?.model ?? 'unknown CPU',
    cores: availableParallelism(),
    gpu: python.gpu,
    node: process.version,
    python: python.version,
    torch: python.torch,
    cuda: python.cuda,
    commit: packed.commit ?? null,
  };
}
