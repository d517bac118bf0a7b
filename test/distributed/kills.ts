/**
 * Kills ranks of runs under torchrun at random moments: KILLS=50 npx vitest run test/distributed/restarts.test.ts
 * No update may be lost beyond the last bundle, no run may hang, and all end with the weights of an undisturbed run.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { faultOf, underTorchrun } from './restarts';

export async function killAtRandom(wanted: number): Promise<number> {
  const maxSteps = 60;
  const root = mkdtempSync(path.join(tmpdir(), 'torchbind-kills-'));
  const undisturbed = await underTorchrun(path.join(root, 'undisturbed'), maxSteps, () => false);
  const { weights } = undisturbed.said.find(({ type }) => type === 'end')!;
  let kills = 0;
  let faults = 0;
  for (let run = 0; kills < wanted; run++) {
    const result = await underTorchrun(path.join(root, String(run)), maxSteps, () => Math.random() < 0.16);
    kills += result.kills;
    const fault = faultOf(result, maxSteps, weights);
    if (fault !== undefined) faults++;
    console.log(`run ${run}: ${result.kills} kills, ${kills} in all: ${fault ?? 'good'}`);
  }
  rmSync(root, { recursive: true, force: true });
  return faults;
}
