/**
 * Kills a training process again and again, and checks what is left each time: in turns at a random moment, and before a
 * random call on its files. More than half of the moments fall between two saves; every such call is part of a save, or of
 * opening what an earlier one left.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';

/** Where a kill fell: the last call on a bundle's files, where what is about tells of a save that was under way. */
export type Phase = 'write' | 'fsync' | 'rename' | 'prune' | 'between saves';

export interface CampaignResult {
  kills: number;
  phases: Record<Phase, number>;
  /** Bundles that were damaged between a kill and the next start. */
  damaged: number;
  /** Updates that the whole run made, those that were made again not counted. */
  steps: number;
  /** What went against the promise; empty when all is well. */
  violations: string[];
}

export interface Line {
  type: 'start' | 'step' | 'save' | 'end' | 'error';
  step: number;
  loss: number;
  message: string;
  /** Of `error`. */
  code?: string;
  warnings: string[];
  /** Of `start`: what was in the directory. */
  files: string[];
}

export interface CampaignOptions {
  root: string;
  kills: number;
  /** Of the moments and of the damage. */
  seed: number;
  /** The library of `phases.c`. */
  phaseLibrary: string;
  /** Called after every kill, with what was found so far. */
  onKill?: (soFar: CampaignResult) => void;
}

const child = path.join(__dirname, 'children/train.cjs');
/** Calls on its files in which a life makes at least two saves and removes old bundles. */
const callsOfSaves = 150;
/** More updates than the kills leave time for. */
const endless = 1_000_000;

/** The same sequence from the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** @returns the losses of each step of one run that is killed `kills` times, and whatever is wrong */
export async function killAgainAndAgain(options: CampaignOptions): Promise<CampaignResult & { losses: number[] }> {
  const { root, kills, seed, phaseLibrary, onKill } = options;
  const random = randomFrom(seed);
  const directory = path.join(root, 'run');
  const losses: number[] = [];
  const violations: string[] = [];
  const phases: Record<Phase, number> = { write: 0, fsync: 0, rename: 0, prune: 0, 'between saves': 0 };
  const phaseFile = path.join(root, 'phase');
  const env = { LD_PRELOAD: phaseLibrary, TORCHBIND_PHASE_FILE: phaseFile, TORCHBIND_PHASE_ROOT: directory };
  let acknowledged = 0;
  let damaged = 0;
  for (let kill = 1; kill <= kills; kill++) {
    writeFileSync(phaseFile, ' ');
    const when =
      kill % 2 === 0
        ? { env, event: Math.floor(random() * 12), delay: random() * 20 }
        : { env: { ...env, TORCHBIND_KILL_AT: String(1 + Math.floor(random() * callsOfSaves)) } };
    const life = await live(root, when);
    for (const { type, message } of life.lines) if (type === 'error') violations.push(`kill ${kill}: ${message}`);
    const start = life.lines.find(({ type }) => type === 'start');
    if (start === undefined) {
      // A call may come before the first line: opening puts right what a kill left.
      if (life.signal !== 'SIGKILL') violations.push(`kill ${kill}: the process did not start: ${life.stderr}`);
    } else if (start.step < acknowledged) {
      violations.push(`kill ${kill}: began at step ${start.step}, though ${acknowledged} had been reported as saved`);
    }
    for (const { type, step, loss } of life.lines) {
      if (type === 'save') acknowledged = step;
      if (type !== 'step') continue;
      if (losses[step - 1] !== undefined && losses[step - 1] !== loss) {
        violations.push(`kill ${kill}: step ${step} has loss ${loss}, before it was ${losses[step - 1]}`);
      }
      losses[step - 1] = loss;
    }
    if (start !== undefined && start.step > 0) {
      const hidden = start.files.filter(isLeftover);
      if (hidden.length > 0) violations.push(`kill ${kill}: left over: ${hidden.join(', ')}`);
    }
    phases[phaseOf(directory, phaseFile)]++;
    if (random() < 0.15 && existsSync(directory)) {
      if (damage(directory, random)) {
        damaged++;
        // A flat file is spoilt, and the newest bundle under steps/ counts, which shares no file with it. The flat manifest may
        // have been spoilt before a second one: the bundle before is what is sure to be there.
        acknowledged = oldestKept(directory);
      }
    }
    onKill?.({ kills: kill, phases, damaged, steps: losses.length, violations });
  }
  return { kills, phases, damaged, steps: losses.length, violations, losses };
}

/** One life of the process, until it is killed: `delay` ms after it told of its `event`-th update or save, or by itself. */
export async function live(
  root: string,
  {
    event = Infinity,
    delay = 0,
    env: more = {},
    args = [],
  }: { event?: number; delay?: number; env?: NodeJS.ProcessEnv; args?: string[] },
): Promise<{ lines: Line[]; stderr: string; signal: NodeJS.Signals | null }> {
  const lines: Line[] = [];
  const env = { ...process.env, ...more, OMP_NUM_THREADS: '1', NODE_NO_WARNINGS: '', UV_USE_IO_URING: '0' };
  const running = spawn(process.execPath, [child, root, String(endless), ...args], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  running.stderr.on('data', (text: Buffer) => (stderr += text.toString()));
  const exited = new Promise<NodeJS.Signals | null>((resolve) => {
    running.once('close', (_, signal) => resolve(signal));
  });
  for await (const text of createInterface(running.stdout)) {
    // A kill may cut the last line short.
    if (!text.endsWith('}')) continue;
    lines.push(JSON.parse(text) as Line);
    if (lines.length === event + 1) setTimeout(() => running.kill('SIGKILL'), delay);
  }
  return { lines, stderr, signal: await exited };
}

function isLeftover(name: string): boolean {
  return /^\.(saving-|saved|trash-)/.test(name);
}

/** What an unfinished save leaves. */
function leftovers(directory: string): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory).filter(isLeftover);
}

const phaseNames: Record<string, Phase> = { w: 'write', f: 'fsync', r: 'rename', p: 'prune' };

function phaseOf(directory: string, phaseFile: string): Phase {
  if (leftovers(directory).length === 0) return 'between saves';
  return phaseNames[readFileSync(phaseFile, 'utf8')] ?? 'write';
}

/** Cuts or flips a file of the newest bundle, if there is another one to go back to; whether it did. */
function damage(directory: string, random: () => number): boolean {
  const steps = keptSteps(directory);
  if (steps.length < 2 || leftovers(directory).length > 0) return false;
  const names = ['model.pt', 'optimizer.pt', 'random_state.pt', 'config.json', 'training_state.json', 'manifest.json'];
  const file = path.join(directory, names[Math.floor(random() * names.length)]!);
  if (!existsSync(file)) return false;
  const bytes = readFileSync(file);
  const place = Math.floor(random() * bytes.length);
  if (random() < 0.5) truncateSync(file, place);
  else {
    bytes[place]! ^= 1 << Math.floor(random() * 8);
    writeFileSync(file, bytes);
  }
  return true;
}

function keptSteps(directory: string): number[] {
  const steps = path.join(directory, 'steps');
  return existsSync(steps) ? readdirSync(steps).map(Number) : [];
}

/** Of the bundles that keep their optimizer, the one before the newest. */
function oldestKept(directory: string): number {
  return keptSteps(directory).sort((a, b) => b - a)[1] ?? 0;
}

/** The losses of the same run when nobody kills it. */
export async function uninterrupted(root: string, steps: number): Promise<number[]> {
  const running = spawn(process.execPath, [child, root, String(endless)], {
    env: { ...process.env, OMP_NUM_THREADS: '1' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const losses: number[] = [];
  for await (const text of createInterface(running.stdout)) {
    const line = JSON.parse(text) as Line;
    if (line.type === 'step') losses.push(line.loss);
    if (losses.length >= steps) running.kill('SIGKILL');
  }
  rmSync(path.join(root, 'run'), { recursive: true, force: true });
  return losses.slice(0, steps);
}
