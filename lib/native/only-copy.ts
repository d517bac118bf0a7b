import { loadFailure } from './loader';

/** Where the copy of this package is that this thread has loaded. Every copy sees the same symbol. */
const loadedFrom = Symbol.for('torchbind.loadedFrom');
const shared = globalThis as { [loadedFrom]?: string };

/**
 * Refuses a second copy of the package in one program: tensors, models and errors of one mean nothing to the other.
 *
 * @throws ERR_TORCHBIND_LOAD naming both
 */
export function refuseSecondCopy(packageRoot: string): void {
  const first = shared[loadedFrom];
  if (first === undefined || first === packageRoot) return;
  throw loadFailure([
    `There are two copies of torchbind in this program, ${first} and ${packageRoot}, and tensors of one mean nothing to the ` +
      'other. Use one: "npm ls torchbind" shows which packages ask for it, "npm dedupe" or "overrides" in package.json gives ' +
      'them the same one, and libraries name it in peerDependencies.',
  ]);
}

/** Call it once the addon is loaded. */
export function noteCopy(packageRoot: string): void {
  shared[loadedFrom] = packageRoot;
}
