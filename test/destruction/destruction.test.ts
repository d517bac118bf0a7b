/**
 * No crash, no failing disk and no second writer loses a checkpoint.
 *
 * TORCHBIND_KILLS=10000 makes the long campaign of kills, TORCHBIND_TURNS=1000 that with Python, TORCHBIND_FAULTS=all lets every call
 * fail in every way.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { sharedTemporaryDirectory } from '../helpers/tmp';
import { type CampaignResult, killAgainAndAgain, uninterrupted } from './campaign';
import { takeTurns, type TurnsResult } from './turns';

const kills = Number(process.env.TORCHBIND_KILLS ?? 60);
const turns = Number(process.env.TORCHBIND_TURNS ?? 5);
const hours = 4 * 3_600_000;
const directory = sharedTemporaryDirectory();

/** A directory of its own below the shared one. */
function place(name: string): string {
  const made = path.join(directory, name);
  mkdirSync(made);
  return made;
}

/** The same in memory where the system has such a place, for what needs no disk: syncs are most of the time of a save. */
function placeInMemory(name: string): string {
  try {
    const made = mkdtempSync(`/dev/shm/torchbind-${name}-`);
    onTestFinished(() => rmSync(made, { recursive: true }));
    return made;
  } catch {
    return place(name);
  }
}

/** Compiles a library to preload. */
function compile(name: string): string {
  const library = path.join(directory, `${name}.so`);
  const source = path.join(__dirname, `${name}.c`);
  execFileSync('cc', ['-shared', '-fPIC', '-O1', '-Wall', '-Werror', '-o', library, source, '-ldl', '-pthread']);
  return library;
}

describe.runIf(process.platform === 'linux')('a training process that is killed at any moment', () => {
  it(
    `finds a whole bundle no older than the last one reported, and resumes exactly, ${kills} times`,
    { timeout: hours },
    async () => {
      const report = (soFar: CampaignResult): void => {
        if (kills <= 1000 || soFar.kills % 100 !== 0) return;
        process.stderr.write(`one of two: ${summary([soFar])}, ${soFar.violations.length} violations\n`);
        for (const violation of soFar.violations.slice(0, 5)) process.stderr.write(`  ${violation}\n`);
      };
      const phaseLibrary = compile('phases');
      const results = await Promise.all(
        [1, 2].map((seed) => {
          return killAgainAndAgain({
            root: place(`kills-${seed}`),
            kills: Math.ceil(kills / 2),
            seed,
            phaseLibrary,
            onKill: report,
          });
        }),
      );
      const reference = await uninterrupted(place('straight'), Math.max(...results.map(({ steps }) => steps)));
      for (const { losses, violations, steps } of results) {
        expect(violations).toEqual([]);
        expect(losses).toEqual(reference.slice(0, losses.length));
        expect(steps).toBeGreaterThan(kills / 4);
      }
      process.stderr.write(`${summary(results)}\n`);
    },
  );
});

describe.runIf(process.platform === 'linux')(
  'a program of Python that trains in turns with Node and saves in place',
  () => {
    it(`loses nothing of either, both killed ${turns} times`, { timeout: hours }, async () => {
      const report = (soFar: TurnsResult): void => {
        if (turns > 100 && soFar.rounds % 50 === 0) process.stderr.write(`${JSON.stringify(soFar)}\n`);
      };
      const { violations, ...figures } = await takeTurns(place('turns'), turns, 1, report);
      process.stderr.write(`${JSON.stringify(figures)}\n`);
      expect(violations).toEqual([]);
      expect(figures.resumed.theirs + figures.resumed.earlier).toBe(turns - 1);
    });
  },
);

function summary(results: readonly CampaignResult[]): string {
  const total = (pick: (result: CampaignResult) => number): number =>
    results.reduce((sum, result) => sum + pick(result), 0);
  const names = Object.keys(results[0]!.phases) as (keyof CampaignResult['phases'])[];
  const phases = names.map((name) => `${name} ${total(({ phases }) => phases[name])}`);
  return `${total((result) => result.kills)} kills (${phases.join(', ')}), ${total((result) => result.damaged)} damaged bundles, ${total((result) => result.steps)} steps`;
}

describe.runIf(process.platform === 'linux')('a save in which a system call fails', () => {
  it(
    'leaves the old bundle or the new one, whichever call it is, and the next save is whole',
    { timeout: hours },
    () => {
      const everyWay = process.env.TORCHBIND_FAULTS === 'all' ? ['--all'] : [];
      const result = spawnSync(process.execPath, [path.join(__dirname, 'children/sweep.cjs'), ...everyWay], {
        env: {
          ...process.env,
          LD_PRELOAD: compile('faults'),
          TORCHBIND_FAULTS_ROOT: placeInMemory('faults'),
          UV_USE_IO_URING: '0',
          OMP_NUM_THREADS: '1',
        },
        encoding: 'utf8',
      });
      expect([result.signal, result.stderr]).toEqual([null, '']);
      const points = JSON.parse(result.stdout) as Record<string, [points: number, failed: number]>;
      process.stderr.write(`${result.stdout}`);
      // Each kind of call comes in a save, and a save with a lasting failure of most is one that failed.
      for (const [name, [count]] of Object.entries(points)) expect([name, count]).not.toEqual([name, 0]);
      for (const name of ['write EIO', 'fsync EIO', 'rename EDQUOT', 'copy ENOSPC', 'chmod EIO'])
        expect(points[name]![1]).toBe(points[name]![0]);
      for (const name of ['write EINTR', 'write short', 'copy EINTR', 'copy short', 'clone EIO'])
        expect(points[name]![1]).toBe(0);
      expect(Object.values(points).reduce((sum, [count]) => sum + count, 0)).toBeGreaterThan(80);
    },
  );
});

const canMount =
  process.platform === 'linux' && process.getuid?.() === 0 && spawnSync('mount', ['--version']).status === 0;

describe.runIf(canMount)('a disk that fills up', () => {
  it('keeps the bundle that it had room for, at every size', { timeout: hours }, () => {
    const disk = place('disk');
    const result = spawnSync(process.execPath, [path.join(__dirname, 'children/full-disk.cjs'), disk], {
      env: { ...process.env, OMP_NUM_THREADS: '1' },
      encoding: 'utf8',
    });
    expect(result.stderr).toBe('');
    const { failed, saved } = JSON.parse(result.stdout) as { failed: number; saved: number };
    expect(failed).toBeGreaterThan(5);
    expect(saved).toBeGreaterThan(5);
    expect(readdirSync(disk)).toEqual([]);
  });
});
