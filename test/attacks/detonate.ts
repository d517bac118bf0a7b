/** Opens each file that asks for much in a process of its own, where its memory can be measured. Linux only. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { bombs, storages } from './bombs';
import { checkpoint, pickle } from './assemble';

export interface Detonation {
  name: string;
  mode: 'read' | 'mmap' | 'inspect';
  /** Peak of the resident memory above that before and the file's size. */
  overMb: number;
  /** What that may be. */
  allowedMb: number;
  /** Of computing. */
  ms: number;
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

/** @param library what to require: the built package */
export function* runBombs(
  names: readonly string[] = Object.keys(bombs),
  modes: readonly Detonation['mode'][] = ['read', 'mmap', 'inspect'],
  library = path.resolve('dist/index.js'),
): Generator<Detonation> {
  const directory = mkdtempSync(path.join(tmpdir(), 'torchbind-bombs-'));
  const [warm, file] = [path.join(directory, 'warm.pt'), path.join(directory, 'bomb')];
  writeFileSync(warm, checkpoint(pickle('N')));
  try {
    for (const name of names) {
      const content = bombs[name]!();
      writeFileSync(file, content);
      const allowedMb = 64 + (name === storages ? (25 * content.length) / 2 ** 20 : 0);
      for (const mode of modes) {
        const output = execFileSync(process.execPath, ['-e', script, library, warm, file, mode], {
          encoding: 'utf8',
          timeout: 60_000,
        });
        yield { name, mode, allowedMb, ...(JSON.parse(output) as Omit<Detonation, 'name' | 'mode' | 'allowedMb'>) };
      }
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Whether the peak of the memory can be told. */
export function canMeasure(): boolean {
  try {
    return process.platform === 'linux' && readFileSync('/proc/self/status', 'utf8').includes('VmHWM');
  } catch {
    return false;
  }
}
