// Runs sequences, each seed in a process of its own, and finds the steps that a crash needs.
import { fileURLToPath } from 'node:url';
import { runChild } from '../run.mjs';

const script = fileURLToPath(new URL('child.cjs', import.meta.url));
/** Address space: workers reserve some of it. */
const LIMIT_KILOBYTES = 8_000_000;
const run = (options) => runChild({ script, from: 0, limitKilobytes: LIMIT_KILOBYTES, ...options });

/**
 * Makes `calls` steps of each of `seeds` seeds, from `seed` on, `jobs` at a time.
 *
 * @returns counts, and findings: `{ kind, seed, index, name, detail }`. A sequence ends at its first crash.
 */
export async function sequences({ seed, seeds, calls, jobs = 1, environment = {}, unlimited, onFinding, onProgress }) {
  const total = { seeds: 0, calls: 0, done: 0, refused: 0, peakMegabytes: 0, findings: [] };
  let next = seed;
  const one = async () => {
    while (next < seed + seeds) {
      const current = next++;
      const { findings, counts, reached } = await run({ seed: current, to: calls, environment, unlimited });
      for (const finding of findings) {
        const named = { ...finding, seed: current };
        total.findings.push(named);
        onFinding?.(named);
      }
      total.seeds++;
      total.calls += reached;
      for (const key of ['done', 'refused']) total[key] += counts[key];
      total.peakMegabytes = Math.max(total.peakMegabytes, counts.peakMegabytes ?? 0);
      onProgress?.(total);
    }
  };
  await Promise.all(Array.from({ length: jobs }, one));
  return total;
}

/** The steps that a crash of this seed needs: halves, quarters and so on are left out while it stays. */
export async function shrink({ seed, calls, onProgress, ...options }) {
  const crashes = async (skip) => {
    const { findings } = await run({ seed, to: calls, skip, ...options });
    return findings.some(({ kind }) => kind === 'crash' || kind === 'hang');
  };
  let kept = Array.from({ length: calls }, (_, i) => i);
  const skipping = (steps) => {
    const wanted = new Set(steps);
    return Array.from({ length: calls }, (_, i) => i).filter((i) => !wanted.has(i));
  };
  if (!(await crashes([]))) return undefined;
  for (let size = Math.ceil(kept.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < kept.length;) {
      const fewer = [...kept.slice(0, at), ...kept.slice(at + size)];
      if (await crashes(skipping(fewer))) kept = fewer;
      else at += size;
      onProgress?.(kept.length, size);
    }
  }
  return { steps: kept, skip: skipping(kept) };
}
