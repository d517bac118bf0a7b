// Runs the fuzzer's children, starts the next where one crashed or hung, and gathers what they find.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const child = fileURLToPath(new URL('child.cjs', import.meta.url));

/** Address space of a child: a request for more fails at once, as on a machine that has no more. */
const LIMIT_KILOBYTES = 3_500_000;
/** Seconds of processor time after which a single call counts as hung; of wall time, sixty times that. */
const HANG_SECONDS = 5;
/** Stands for the number of a call where a process ended before its first. */
const NONE_YET = -1;

/**
 * Makes `calls` calls of a seed, from `first` on.
 *
 * @returns counts, and findings: `{ kind: 'crash' | 'hang' | 'error' | 'unmade' | 'memory', index, name, detail }`
 */
export async function fuzz({
  seed,
  calls,
  first = 0,
  only,
  minutes,
  environment = {},
  unlimited,
  onProgress,
  onFinding,
}) {
  const end = first + calls;
  const deadline = minutes === undefined ? Infinity : Date.now() + minutes * 60_000;
  const total = { calls: 0, done: 0, refused: 0, peakMegabytes: 0, findings: [] };
  for (let next = first; next < end && Date.now() < deadline;) {
    const stop = Math.min(end, next + 20_000); // a new process now and then, so that memory is measured afresh
    const run = await runChild({ seed, from: next, to: stop, only, environment, unlimited, deadline });
    const early = run.findings.find(({ index }) => index === NONE_YET);
    if (early !== undefined) throw new Error(`the fuzzer ended before its first call: ${early.detail}`);
    total.findings.push(...run.findings);
    run.findings.forEach((finding) => onFinding?.(finding));
    for (const key of ['done', 'refused']) total[key] += run.counts[key];
    total.peakMegabytes = Math.max(total.peakMegabytes, run.counts.peakMegabytes ?? 0);
    total.calls += run.reached - next;
    next = run.reached;
    onProgress?.(total, end - first);
  }
  return total;
}

/** One process of the fuzzer: `script` with the calls of a seed from one number to another. */
export function runChild({
  script = child,
  seed,
  from,
  to,
  only,
  skip,
  environment,
  unlimited,
  deadline = Infinity,
  verbose,
  limitKilobytes = LIMIT_KILOBYTES,
}) {
  const directory = mkdtempSync(path.join(tmpdir(), 'torchbind-fuzz-run-'));
  const record = path.join(directory, 'record');
  const job = JSON.stringify({ seed, from, to, only, skip, record, verbose, watched: true });
  const limit = unlimited ? '' : `ulimit -v ${limitKilobytes}; `;
  const command = `ulimit -c 0; ${limit}exec "$@"`;
  const args = ['-c', command, 'fuzz', process.execPath, '--expose-gc', script, job];
  const process_ = spawn('bash', args, {
    env: { ...process.env, OMP_NUM_THREADS: '1', TORCH_CPP_LOG_LEVEL: 'ERROR', ...environment },
    stdio: ['pipe', 'pipe', 'pipe'], // the child ends when its standard input does: with this process
  });
  return new Promise((resolve) => {
    let stdout = '';
    let stderr = '';
    process_.stdout.setEncoding('utf8').on('data', (text) => (stdout += text));
    process_.stderr.setEncoding('utf8').on('data', (text) => (stderr = (stderr + text).slice(-4000)));
    const watch = watchdog(process_, record, deadline);
    process_.on('close', (status, signal) => {
      const why = watch.stop();
      const last = recordOf(record);
      rmSync(directory, { recursive: true, force: true });
      resolve(outcome({ from, to, stdout, stderr, status, signal, why, last }));
    });
  });
}

function outcome({ from, to, stdout, stderr, status, signal, why, last }) {
  const lines = stdout.split('\n').filter((line) => line.startsWith('{"kind":'));
  const reports = lines.map((line) => JSON.parse(line));
  const findings = reports.filter((report) => report.kind !== 'summary');
  const counts = reports.find((report) => report.kind === 'summary');
  if (counts !== undefined && status === 0) {
    // A few that garbage collection has not come to are no leak; a leak is one for every call of its kind.
    if (counts.tensors > 20)
      findings.push({ kind: 'memory', index: to, name: '', detail: `${counts.tensors} tensors` });
    return { findings, counts, reached: to };
  }
  const { done, refused, ...call } = last;
  const reached = Math.max(call.index, from) + 1;
  if (why !== 'deadline') {
    const kind = why === 'hang' ? 'hang' : 'crash';
    findings.push({ kind, ...call, detail: `${signal ?? `status ${status}`}\n${stderr.slice(-1500)}` });
  }
  return { findings, counts: { done, refused }, reached };
}

/** Kills the child when one call takes too long, or when the time is up. */
function watchdog(process_, record, deadline) {
  let why;
  let seen = { text: '', since: Date.now(), seconds: 0 };
  const timer = setInterval(() => {
    const text = existsSync(record) ? readFileSync(record, 'utf8') : '';
    const seconds = processorSeconds(process_.pid);
    if (text !== seen.text) seen = { text, since: Date.now(), seconds };
    const wall = (Date.now() - seen.since) / 1000;
    if (seconds - seen.seconds > HANG_SECONDS || wall > 60 * HANG_SECONDS) why = 'hang';
    else if (Date.now() > deadline) why = 'deadline';
    if (why !== undefined) process_.kill('SIGKILL');
  }, 250);
  return {
    stop() {
      clearInterval(timer);
      return why;
    },
  };
}

/** User and system time of a process, in seconds. */
function processorSeconds(pid) {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch {
    return 0; // ended meanwhile
  }
}

function recordOf(record) {
  const text = existsSync(record) ? readFileSync(record, 'utf8').trim() : '';
  const match = /^(-?\d+) (\d+) (\d+) ([^]*)$/.exec(text);
  if (match === null) return { index: NONE_YET, done: 0, refused: 0, name: 'before the first call' };
  const [index, done, refused] = match.slice(1, 4).map(Number);
  return { index, done, refused, name: match[4] };
}
