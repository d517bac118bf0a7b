/** Lets Node and a Python program that saves in place train one model in turns, each killed at a random moment. */
import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { startPython } from '../helpers/python';
import { type Line, live, randomFrom } from './campaign';

export interface TurnsResult {
  rounds: number;
  /** Turns of Python that were killed while it saved. */
  killedSaving: number;
  /** Turns after which weights were new and the optimizer or the step was not. */
  mixed: number;
  /** Turns that began with the last save that Python had finished, and with one before it. */
  resumed: { theirs: number; earlier: number };
  /** What went against the promise; empty when all is well. */
  violations: string[];
}

interface PythonLine {
  type: 'turn' | 'start' | 'saving' | 'saved' | 'error' | 'end';
  pid: number;
  step: number;
  message: string;
}

const script = path.join(__dirname, 'children/turns.py');

export async function takeTurns(
  root: string,
  rounds: number,
  seed: number,
  onRound?: (soFar: TurnsResult) => void,
): Promise<TurnsResult> {
  const random = randomFrom(seed);
  const directory = path.join(root, 'run');
  const result: TurnsResult = {
    rounds: 0,
    killedSaving: 0,
    mixed: 0,
    resumed: { theirs: 0, earlier: 0 },
    violations: [],
  };
  const python = await startPython(script);
  const lines = createInterface(python.stdout!)[Symbol.asyncIterator]();
  /** The last step that Node told to be saved. */
  let acknowledged = 0;
  let theirs: PythonLine | undefined;
  try {
    while (result.rounds++ < rounds) {
      const complain = (what: string): void => void result.violations.push(`round ${result.rounds}: ${what}`);
      const left = modelDigest(directory);
      // The first turn leaves a save to go on from; others may be killed before they save anything.
      const events = acknowledged === 0 ? 12 : Math.floor(random() * 12);
      const delay = random() * 20;
      let node = await live(root, { event: events, delay });
      if (node.lines.some(({ code }) => code === 'ERR_TORCHBIND_MIXED_STATE')) {
        result.mixed++;
        if (theirs?.type !== 'saving') complain('files of one save of Python were taken for those of two');
        node = await live(root, { event: events, delay, args: ['mixed'] });
      }
      const start = node.lines.find(({ type }) => type === 'start');
      for (const { type, message } of node.lines) if (type === 'error') complain(message);
      if (start === undefined) complain(`Node did not start: ${node.stderr}`);
      else check(start, theirs, acknowledged, result, complain);
      const saves = node.lines.filter(({ type }) => type === 'save');
      acknowledged = saves.at(-1)?.step ?? acknowledged;
      // Three bundles are kept: the one before is there until two saves later.
      if (theirs !== undefined && left !== undefined && [1, 2].includes(saves.length) && !isKept(directory, left))
        complain('the weights that Python left are gone');
      const said = await turnOf(python, lines, directory, random() * 60);
      if (said.type === 'saving') result.killedSaving++;
      // What it left half written itself it cannot open before Node has saved.
      const isTheirOwn = theirs?.type === 'saving' && saves.length === 0;
      if (said.type !== 'error') theirs = said;
      else if (!isTheirOwn) complain(`Python could not open what Node left: ${said.message}`);
      onRound?.(result);
    }
    result.rounds = rounds;
    return result;
  } finally {
    python.kill('SIGKILL');
  }
}

/** Where Node begins, against what Python was doing when it was killed. */
function check(
  { step }: Line,
  theirs: PythonLine | undefined,
  acknowledged: number,
  { resumed }: TurnsResult,
  complain: (what: string) => void,
): void {
  if (step < acknowledged) complain(`began at step ${step}, though ${acknowledged} had been reported as saved`);
  if (theirs?.type === 'saved' && step !== theirs.step)
    complain(`began at step ${step}, and Python had saved step ${theirs.step}`);
  if (theirs?.type === 'saving' && step > theirs.step)
    complain(`began at step ${step}, and Python was saving ${theirs.step}`);
  if (theirs !== undefined) resumed[step === theirs.step ? 'theirs' : 'earlier']++;
}

/** A turn of Python, which is killed; the last thing that it said of itself. */
async function turnOf(
  python: ChildProcess,
  lines: AsyncIterator<string>,
  directory: string,
  delay: number,
): Promise<PythonLine> {
  python.stdin!.write(`${directory}\n`);
  let pid: number | undefined;
  let last: PythonLine | undefined;
  for (;;) {
    const next = await lines.next();
    if (next.done === true) throw new Error('Python ended');
    const line = JSON.parse(next.value) as PythonLine;
    if (line.type === 'turn') pid = line.pid;
    else if (line.type === 'end') return last!;
    else last = line;
    if (pid !== undefined && last?.type === 'start') {
      const target = pid;
      pid = undefined;
      setTimeout(() => process.kill(target, 'SIGKILL'), delay);
    }
  }
}

function modelDigest(directory: string): string | undefined {
  const file = path.join(directory, 'model.pt');
  return existsSync(file) ? createHash('sha256').update(readFileSync(file)).digest('hex') : undefined;
}

function isKept(directory: string, digest: string): boolean {
  const places = ['steps', 'replaced'].flatMap((name) => {
    const parent = path.join(directory, name);
    return existsSync(parent) ? readdirSync(parent).map((each) => path.join(parent, each)) : [];
  });
  return [directory, ...places].some((place) => modelDigest(place) === digest);
}
