import { stat } from 'node:fs/promises';
import path from 'node:path';
import { TorchBindError } from '../errors';
import { programs } from './programs';
import { bundle } from './programs/bundle';
import { nanogpt } from './programs/nanogpt';
import type { Program, WriteRequest } from './programs/program';
import { stateDict } from './programs/state-dict';
import type { Origin, ProgramName } from './saved-model';

export function programByName(name: ProgramName): Program {
  return programs.find((program) => program.name === name)!;
}

/**
 * The program to save a model for: the one that it came from, or if it goes to another family, that family's own. A path
 * that is a file's never gets a bundle, nor a directory a state dict.
 */
export async function chooseProgram(target: string, layout: string, origin: Origin | undefined): Promise<Program> {
  const own = ownProgram(layout, origin);
  if (await isFilePath(target, origin)) return own === undefined || own === bundle ? stateDict : own;
  const bare: readonly ProgramName[] = ['state-dict', 'training-dict', 'single-file'];
  return own === undefined || bare.includes(own.name) ? bundle : own;
}

/** Whether saving may write an optimizer's state: programs for other targets than their own hold none. */
export function mayHoldOptimizer(layout: string, origin: Origin | undefined): boolean {
  return ownProgram(layout, origin)?.holdsOptimizer === true;
}

function ownProgram(layout: string, origin: Origin | undefined): Program | undefined {
  return programs.find(({ name, families }) =>
    origin === undefined ? families?.includes(layout) === true : name === origin.program,
  );
}

/** A file's by its suffix, or the file that the model came from, whose name may have none. */
async function isFilePath(target: string, origin?: Origin): Promise<boolean> {
  if (hasFileSuffix(target)) return true;
  if (origin === undefined || programByName(origin.program).place === 'directory') return false;
  const [there, source] = await Promise.all([target, origin.path].map((file) => stat(file).catch(() => undefined)));
  return there?.isFile() === true && there.ino === source?.ino && there.dev === source.dev;
}

function hasFileSuffix(target: string): boolean {
  return /\.(pt|pth|bin|ckpt|tar)$/.test(target);
}

/** Writes a model as a program does. */
export async function writeAs(program: Program, target: string, request: WriteRequest): Promise<void> {
  if (program.place === 'directory' && hasFileSuffix(target)) {
    throw new TorchBindError(
      `save: '${request.model.layout.name}' models are saved to a directory, but ${target} is the name of a file. Pass a path without that extension.`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  await program.write(program.place === 'file' ? await fileIn(target) : target, request);
}

/** A directory as the target of a program that saves one file. */
async function fileIn(target: string): Promise<string> {
  const info = await stat(target).catch(() => undefined);
  return info?.isDirectory() === true ? path.join(target, nanogpt.fileNames[0]!) : target;
}
