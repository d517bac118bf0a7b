/** What an unpacked torch wheel says that it needs. */
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';

/** The requirements of the torch wheel unpacked at `entry`, those of optional extras left out; [] for a libtorch zip. */
export function requirementsOf(entry: string): string[] {
  const metadata = readdirSync(entry).find((name) => /^torch-.*\.dist-info$/.test(name));
  if (metadata === undefined) return [];
  const text = readFileSync(path.join(entry, metadata, 'METADATA'), 'utf8');
  return [...text.matchAll(/^Requires-Dist: (.+?)\s*$/gm)]
    .map((match) => match[1]!)
    .filter((line) => !/\bextra\s*==/.test(line));
}

/**
 * CUDA's own libraries among the requirements. libtorch_cpu of a CUDA build needs the runtime and CUPTI even where no
 * GPU is used; the rest serves libtorch_cuda alone.
 */
export function cudaRequirements(requirements: string[], all: boolean): string[] {
  const cuda = requirements.filter((requirement) => /^(cuda-toolkit|nvidia-)/.test(requirement));
  if (all) return cuda;
  return cuda
    .filter((requirement) => /^cuda-toolkit|^nvidia-cuda-(runtime|cupti)/.test(requirement))
    .map((requirement) => requirement.replace(/^cuda-toolkit\[[^\]]*\]/, 'cuda-toolkit[cudart,cupti]'));
}
