import { randomBytes } from 'node:crypto';
import { rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { checkOptions, describe, TorchBindError } from '../errors';
import { adoptOwnerOf, bundleFiles, manifestFile, syncDirectory, writeJson } from './files';
import { firstDifference, listSteps, type StepBundle } from './manifest';

/** Which bundles stay under `steps/`: those that match any rule. The newest always stays. */
export interface KeepOptions {
  /** The newest `last` bundles, at least 1. Default 2. */
  last?: number;
  /** Bundles whose step is a multiple of this. Default: none. */
  every?: number;
  /** The `best` best bundles by `metric`. Default 0. */
  best?: number;
  /** Name of a metric of the bundles. Default `val_loss`. */
  metric?: string;
  /** Whether a lower (`min`, the default) or a higher (`max`) value is better. */
  mode?: 'min' | 'max';
  /**
   * Only the newest `optimizerLast` bundles keep the optimizer's state, which is two thirds of the size. Default: all.
   */
  optimizerLast?: number;
}

export type KeepRules = Required<Omit<KeepOptions, 'every' | 'optimizerLast'>> &
  Pick<KeepOptions, 'every' | 'optimizerLast'>;

const optionNames = ['last', 'every', 'best', 'metric', 'mode', 'optimizerLast'];

/** @throws ERR_TORCHBIND_UNKNOWN_OPTION, ERR_TORCHBIND_INVALID_ARGUMENT */
export function keepRules(options: KeepOptions = {}): KeepRules {
  checkOptions(options, optionNames, 'keep');
  const rules = { ...options, last: options.last ?? 2, best: options.best ?? 0 };
  for (const [name, least] of [
    ['last', 1],
    ['every', 1],
    ['best', 0],
    ['optimizerLast', 1],
  ] as const) {
    const value = rules[name];
    if (value === undefined || (Number.isSafeInteger(value) && value >= least)) continue;
    throw invalid(`${name} must be an integer of at least ${least}, got ${describe(value)}`);
  }
  const { metric = 'val_loss', mode = 'min' } = options;
  if (typeof metric !== 'string') throw invalid(`metric must be the name of a metric, got ${describe(metric)}`);
  if (mode !== 'min' && mode !== 'max') throw invalid(`mode must be 'min' or 'max', got ${describe(mode)}`);
  return { ...rules, metric, mode };
}

/** Which bundles the rules remove, and which lose their optimizer. Bundles are in the order of `listSteps`. */
export function chooseSteps(
  bundles: readonly StepBundle[],
  rules: KeepRules,
): { remove: StepBundle[]; slim: StepBundle[] } {
  const kept = new Set(bundles.slice(0, rules.last));
  for (const bundle of bundles) if (rules.every !== undefined && bundle.step % rules.every === 0) kept.add(bundle);
  for (const bundle of bestSteps(bundles, rules).slice(0, rules.best)) kept.add(bundle);
  const remove = bundles.filter((bundle) => !kept.has(bundle));
  const older = bundles.slice(rules.optimizerLast ?? bundles.length);
  return { remove, slim: older.filter((bundle) => kept.has(bundle) && bundle.hasOptimizer) };
}

/** Bundles that have the metric, the best first; of equals the one saved first. */
export function bestSteps(bundles: readonly StepBundle[], { metric, mode }: KeepRules): StepBundle[] {
  const sign = mode === 'min' ? 1 : -1;
  const valueOf = (bundle: StepBundle): number => sign * bundle.manifest.metrics[metric]!;
  return [...bundles]
    .reverse()
    .filter((bundle) => metric in bundle.manifest.metrics)
    .sort((a, b) => valueOf(a) - valueOf(b));
}

/**
 * Removes bundles that the rules do not keep, after the newest bundle was read back and found intact.
 *
 * @throws ERR_TORCHBIND_SAVE if it is not; nothing is removed then
 */
export async function prune(target: string, rules: KeepRules): Promise<void> {
  const bundles = await listSteps(target);
  const { remove, slim } = chooseSteps(bundles, rules);
  if (remove.length + slim.length === 0) return;
  const newest = bundles[0]!;
  const difference = await firstDifference(newest.directory, newest.manifest);
  if (difference !== undefined) {
    throw new TorchBindError(
      `The bundle that was just saved is damaged on disk: ${difference.name} in ${newest.directory} was read back, and ` +
        `${difference.reason}. No older bundle was removed. Check the disk.`,
      'ERR_TORCHBIND_SAVE',
    );
  }
  for (const bundle of slim) await dropOptimizer(bundle);
  for (const bundle of remove) await discard(target, bundle.directory);
}

/** The manifest without the file is written first: a crash leaves a file too many, not one too few. */
async function dropOptimizer({ directory, manifest }: StepBundle): Promise<void> {
  const { [bundleFiles.optimizer]: dropped, ...files } = manifest.files;
  if (dropped === undefined) return;
  const temporary = path.join(directory, `.${manifestFile}.${randomBytes(6).toString('hex')}`);
  try {
    await writeJson(temporary, { ...manifest, files, dropped: [...manifest.dropped, bundleFiles.optimizer] });
    const file = path.join(directory, manifestFile);
    await adoptOwnerOf(temporary, await stat(file));
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error;
  }
  await syncDirectory(directory);
  await rm(path.join(directory, bundleFiles.optimizer), { force: true });
}

/** Renames a directory away atomically, and then deletes it. */
export async function discard(target: string, directory: string): Promise<void> {
  const trash = path.join(target, `${trashPrefix}${randomBytes(6).toString('hex')}`);
  await rename(directory, trash);
  await syncDirectory(path.dirname(directory));
  await rm(trash, { recursive: true, force: true });
}

/** Prefix of directories being deleted; the next start removes leftovers. */
export const trashPrefix = '.trash-';

function invalid(reason: string): TorchBindError {
  return new TorchBindError(`keep: ${reason}`, 'ERR_TORCHBIND_INVALID_ARGUMENT');
}
