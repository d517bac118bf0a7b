import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { CheckpointCode, CheckpointError } from '../errors';
import { refuseForeign } from './foreign';
import { directoryPrograms, filePrograms } from './programs';
import { type DirectoryProgram, Listing, type ModelFiles } from './programs/program';

/** What is at a path. */
export interface Location {
  path: string;
  /** The program that laid out the directory; null for a single file, whose contents tell. */
  program: DirectoryProgram | null;
  /** The models there, the newest first. The next one counts where one is damaged or not complete. */
  models: readonly [ModelFiles, ...ModelFiles[]];
}

/** Names of single files that are looked for in a directory, in this order. */
export const singleFileNames: readonly string[] = filePrograms.flatMap(({ fileNames }) => fileNames);

/**
 * Says what is at a path: which program's files, and where the weights and the rest are. Everything that opens, compares,
 * inspects or lists models asks here, so that all of them find the same. A directory is read once.
 *
 * @param names of single files to look for in a directory, in this order
 * @throws CheckpointError ERR_TORCHBIND_CHECKPOINT_OPEN for a path with no model, saying what was looked for
 */
export async function locate(target: string, names: readonly string[] = singleFileNames): Promise<Location> {
  const info = await stat(target).catch((error: Error) => {
    throw new CheckpointError(`cannot open ${target}: ${error.message}`, CheckpointCode.open, { cause: error });
  });
  if (!info.isDirectory()) return locateFile(target);
  const listing = await listDirectory(target);
  return (await locateIn(listing, names)) ?? nothingFound(listing, names);
}

/** As `locate`; undefined for a directory that is not there or holds no model. */
export async function locateIfThere(directory: string, names = singleFileNames): Promise<Location | undefined> {
  const listing = await listDirectory(directory).catch(() => undefined);
  return listing && locateIn(listing, names);
}

export async function listDirectory(directory: string): Promise<Listing> {
  return new Listing(directory, await readdir(directory));
}

function locateFile(file: string): Location {
  for (const program of directoryPrograms) {
    const files = program.locateFile?.(file);
    if (files !== undefined) return { path: file, program, models: [files] };
  }
  return { path: file, program: null, models: [singleFile(file)] };
}

async function locateIn(listing: Listing, names: readonly string[]): Promise<Location | undefined> {
  const found = (program: DirectoryProgram | null, [first, ...rest]: ModelFiles[] = []): Location | undefined =>
    first && { path: listing.directory, program, models: [first, ...rest] };
  for (const program of directoryPrograms) {
    const location = found(program, await program.locate(listing));
    if (location !== undefined) return location;
  }
  const name = listing.first(names);
  if (name !== undefined) return found(null, [singleFile(listing.at(name))]);
  for (const program of directoryPrograms) {
    const location = found(program, await program.locateRun?.(listing));
    if (location !== undefined) return location;
  }
  return undefined;
}

function singleFile(file: string): ModelFiles {
  return { directory: path.dirname(file), weights: file, others: [] };
}

function nothingFound(listing: Listing, names: readonly string[]): never {
  refuseForeign(listing);
  const { directory, names: there } = listing;
  throw new CheckpointError(
    `${directory} holds no model: neither model.pt with config.json, nor model.safetensors or pytorch_model.bin, ` +
      `nor adapter_config.json, nor ${names.join(', ')}, nor a checkpoint-N. ` +
      `It holds ${there.slice(0, 8).join(', ') || 'nothing'}.`,
    CheckpointCode.open,
  );
}
