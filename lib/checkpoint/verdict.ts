import path from 'node:path';
import { TorchBindError } from '../errors';
import { inspectFile } from '../formats/inspect/file';
import type { GPTConfig } from '../models/config';
import { recogniseAdapted } from '../models/layouts';
import { bundleFiles, exists, readJson, specialFileAt } from './files';
import { contentsOf } from './inspect-contents';
import { type FileRecord, type Manifest, readManifest, recordOf } from './manifest';
import { resolveJsonConfig } from './saved-model';

/** What the files of a bundle are worth, told from their bytes alone: never from file times, which a copy changes. */

/** A file of a bundle against the manifest. */
export type FileState =
  /** The size and the SHA-256 are those of the manifest. */
  | 'same'
  /** Another content, which is whole: the checksums inside are right, or the JSON can be parsed. */
  | 'other'
  /** Missing, cut short or damaged. */
  | 'broken';

export type Verdict =
  /** Ours, whole. */
  | 'whole'
  /** A newer save of another program, with a training state of its own. */
  | 'newer'
  /** New weights of another program, with an optimizer or a step that belongs to the weights before. */
  | 'weights-only'
  /** Our weights, and a JSON file that was edited or damaged: it has no checksum. */
  | 'edited'
  /** Not to be used. */
  | 'broken';

/**
 * The verdict on a bundle.
 *
 * @param files the state of each file that the manifest lists; once the weights are new, also of a training state and an
 *   optimizer that it does not list
 * @param fits whether the weights fit the config
 */
export function judge(files: Readonly<Record<string, FileState>>, fits: boolean): Verdict {
  const states = Object.values(files);
  if (states.includes('broken')) return 'broken';
  if (states.every((state) => state === 'same')) return 'whole';
  if (files[bundleFiles.model] === 'same') {
    const isJson = Object.entries(files).every(([name, state]) => state === 'same' || name.endsWith('.json'));
    return isJson ? 'edited' : 'broken'; // No whole save leaves the weights and changes the optimizer.
  }
  if (!fits) return 'broken';
  const training = [files[bundleFiles.trainingState], files[bundleFiles.optimizer]];
  return training.includes('same') ? 'weights-only' : 'newer';
}

/** What was found in a directory with a manifest. */
export interface Examination {
  verdict: Verdict;
  manifest: Manifest;
  files: Readonly<Record<string, FileState>>;
  /** The file that decides against the bundle, and why; undefined for a whole one. */
  reason: { name: string; reason: string } | undefined;
}

/** Compares a bundle with its manifest; undefined without a manifest. */
export async function examine(directory: string): Promise<Examination | undefined> {
  const manifest = await readManifest(directory);
  if (manifest === undefined) return undefined;
  const files: Record<string, FileState> = {};
  const reasons = new Map<string, string>();
  const look = async (name: string, expected: FileRecord | undefined): Promise<void> => {
    const { state, reason } = await stateOf(path.join(directory, name), expected);
    files[name] = state;
    if (reason !== undefined) reasons.set(name, reason);
  };
  for (const [name, expected] of Object.entries(manifest.files)) await look(name, expected);
  const isNew = files[bundleFiles.model] === 'other';
  for (const name of isNew ? [bundleFiles.trainingState, bundleFiles.optimizer] : []) {
    if (!(name in files) && (await exists(path.join(directory, name)))) await look(name, undefined);
  }
  const misfit = isNew ? await misfitOf(directory) : undefined;
  const verdict = judge(files, misfit === undefined);
  if (misfit !== undefined) reasons.set(bundleFiles.model, misfit);
  const decisive = [...reasons.keys()].sort((a, b) => weightOf(files[b]!) - weightOf(files[a]!))[0];
  const reason = decisive === undefined ? undefined : { name: decisive, reason: reasons.get(decisive)! };
  return { verdict, manifest, files, reason };
}

function weightOf(state: FileState): number {
  return state === 'broken' ? 1 : 0;
}

async function stateOf(file: string, expected: FileRecord | undefined): Promise<{ state: FileState; reason?: string }> {
  if (!(await exists(file))) return { state: 'broken', reason: 'it is missing' };
  const special = await specialFileAt(file);
  if (special !== undefined) return { state: 'broken', reason: `it is ${special}` };
  const found = await recordOf(file);
  if (expected !== undefined && found.size === expected.size && found.sha256 === expected.sha256)
    return { state: 'same' };
  const problem = await problemOf(file);
  const reason =
    expected === undefined
      ? 'the manifest does not list it'
      : found.size === expected.size
        ? `its SHA-256 is ${found.sha256}, the manifest says ${expected.sha256}`
        : `it has ${found.size} bytes, the manifest says ${expected.size}`;
  return problem === undefined
    ? { state: 'other', reason }
    : { state: 'broken', reason: `${reason}, and it is damaged: ${problem}` };
}

/** What is wrong with a file by itself; undefined for one that is whole. */
async function problemOf(file: string): Promise<string | undefined> {
  try {
    if (file.endsWith('.json')) {
      await readJson(file);
      return undefined;
    }
    return (await inspectFile(file, true)).problems[0]?.message;
  } catch (error) {
    if (error instanceof TorchBindError) return error.message;
    throw error;
  }
}

/** Why the weights do not fit the config; undefined if they do. */
async function misfitOf(directory: string): Promise<string | undefined> {
  try {
    const report = await inspectFile(path.join(directory, bundleFiles.model));
    const recognised = recogniseAdapted(contentsOf(report).weights);
    const config = resolveJsonConfig(await readJson(path.join(directory, bundleFiles.config)), recognised, {});
    const facts = Object.entries(recognised.facts) as [keyof GPTConfig, unknown][];
    const wrong = facts.find(([name, value]) => typeof value === 'number' && config[name] !== value);
    return (
      wrong && `its ${wrong[0]} is ${String(wrong[1])}, and ${bundleFiles.config} says ${String(config[wrong[0]])}`
    );
  } catch (error) {
    if (error instanceof TorchBindError) return error.message;
    throw error;
  }
}

/** SHA-256 of the files of a bundle that are in a directory, and of its manifest. */
export async function digests(directory: string, names: readonly string[]): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const name of names) {
    const file = path.join(directory, name);
    if (!(await exists(file))) continue;
    found.set(name, (await recordOf(file)).sha256);
  }
  return found;
}
