import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { bundleFiles } from './files';
import { type Manifest, readManifest } from './integrity';

/** Holds complete bundles by their step, which are never changed once they are there. */
export const stepsDirectory = 'steps';

/** A bundle that was kept. */
export interface StepBundle {
  step: number;
  directory: string;
  manifest: Manifest;
  /** Whether the optimizer's state is there still. */
  hasOptimizer: boolean;
}

/** `steps/00001000`: eight digits, so that names sort as numbers do. */
export function stepDirectory(target: string, step: number): string {
  return path.join(target, stepsDirectory, String(step).padStart(8, '0'));
}

/** The bundles that were kept, the one saved last first. Directories without a readable manifest are no bundles. */
export async function listSteps(target: string): Promise<StepBundle[]> {
  const names = await readdir(path.join(target, stepsDirectory)).catch(() => []);
  const bundles = await Promise.all(names.filter((name) => /^\d{8,}$/.test(name)).map((name) => read(target, name)));
  return bundles
    .filter((bundle) => bundle !== undefined)
    .sort((a, b) => b.manifest.sequence! - a.manifest.sequence! || b.step - a.step);
}

async function read(target: string, name: string): Promise<StepBundle | undefined> {
  const directory = path.join(target, stepsDirectory, name);
  const manifest = await readManifest(directory).catch(() => undefined);
  if (manifest?.step !== Number(name) || manifest.sequence === null) return undefined;
  return { step: manifest.step, directory, manifest, hasOptimizer: bundleFiles.optimizer in manifest.files };
}
