/** Opens each file that asks for much in a process of its own, where its memory can be measured. Linux only. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';
import type * as torchbind from '../../lib/index';
import { bombs, storages, tensorsWithStorages } from './bombs';

export interface Detonation {
  name: string;
  mode: 'read' | 'mmap' | 'inspect';
  /** Peak of the resident memory above that before and the file's size. */
  overMb: number;
  /** What that may be. */
  allowedMb: number;
  /** Of computing. */
  ms: number;
  /** What that may be on a machine that is not busy. */
  allowedMs: number;
  /** `loaded`, or the code of the error. */
  outcome: string;
}

const script = `
const fs = require('node:fs');
const [library, warm, file, mode] = process.argv.slice(1);
const torch = require(library);
const inMb = (field) => Number(new RegExp(field + ':\\\\s+(\\\\d+)').exec(fs.readFileSync('/proc/self/status', 'utf8'))[1]) / 1024;
const open = (path) => (mode === 'inspect' ? torch.inspect(path) : torch.load(path, { mmap: mode === 'mmap' }));
open(warm).then(async () => {
  fs.writeFileSync('/proc/self/clear_refs', '5'); // the peak begins anew
  const before = inMb('VmRSS');
  const began = process.cpuUsage();
  const outcome = await open(file).then(() => 'loaded', (error) => (error instanceof torch.CheckpointError ? error.code : String(error)));
  const ms = process.cpuUsage(began).user / 1000;
  console.log(JSON.stringify({ overMb: inMb('VmHWM') - before - fs.statSync(file).size / 2 ** 20, ms, outcome }));
});
`;

const limitCode = 'ERR_TORCHBIND_CHECKPOINT_LIMIT';

/** Bombs that are refused are also made as large as they may be, within a hundredth. */
const fineness = 1 / 128;

/** What takes part, and which package opens it. */
export interface Site {
  names?: readonly string[];
  modes?: readonly Detonation['mode'][];
  /** Whether bombs that are refused are opened at the largest size that loads, too. */
  fitted?: boolean;
  /** What to require: the built package. */
  library?: string;
}

/** Opens each bomb in a process of its own, in each mode. */
export async function* runBombs({
  names = Object.keys(bombs),
  modes = ['read', 'mmap', 'inspect'],
  fitted = false,
  library = path.resolve('dist/index.js'),
}: Site): AsyncGenerator<Detonation> {
  const directory = mkdtempSync(path.join(tmpdir(), 'torchbind-bombs-'));
  const [warm, file] = [path.join(directory, 'warm.pt'), path.join(directory, 'bomb')];
  // With a tensor, so that libtorch is there before.
  writeFileSync(warm, tensorsWithStorages(1));
  const detonate = function* (name: string, content: Buffer): Generator<Detonation> {
    writeFileSync(file, content);
    const allowedMb = 64 + (name === storages ? (25 * content.length) / 2 ** 20 : 0);
    for (const mode of modes) {
      const args = ['-e', script, library, warm, file, mode];
      const output = execFileSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000 });
      yield {
        name,
        mode,
        allowedMb,
        allowedMs: name === storages ? 5000 : 1000,
        ...(JSON.parse(output) as Pick<Detonation, 'overMb' | 'ms' | 'outcome'>),
      };
    }
  };
  try {
    for (const name of names) {
      yield* detonate(name, bombs[name]!());
      const content = fitted ? await largestThatLoads(name, file, library) : undefined;
      if (content !== undefined) yield* detonate(`${name}, as many as load`, content);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The bomb of the largest size that is not refused for what it asks for; undefined where the whole one is not. */
async function largestThatLoads(name: string, file: string, library: string): Promise<Buffer | undefined> {
  const { load, tidy } = createRequire(__filename)(library) as typeof torchbind;
  const isRefused = async (content: Buffer): Promise<boolean> => {
    writeFileSync(file, content);
    const outcome = await tidy(async () =>
      load(file, { mmap: true }).then(
        () => undefined,
        (error: unknown) => error,
      ),
    );
    return (outcome as { code?: string } | undefined)?.code === limitCode;
  };
  if (!(await isRefused(bombs[name]!()))) return undefined;
  let [loads, refused] = [0, 1];
  while (refused - loads > fineness * refused) {
    const share = (loads + refused) / 2;
    if (await isRefused(bombs[name]!(share))) refused = share;
    else loads = share;
    if (refused < 1e-6) return undefined;
  }
  return bombs[name]!(loads);
}

/** Whether the peak of the memory can be told. */
export function canMeasure(): boolean {
  try {
    return process.platform === 'linux' && readFileSync('/proc/self/status', 'utf8').includes('VmHWM');
  } catch {
    return false;
  }
}
