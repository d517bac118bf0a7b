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
export function chooseProgram(target: string, layout: string, origin: Origin | undefined): Program {
  const own = programs.find(({ name, family }) => (origin === undefined ? family === layout : name === origin.program));
  if (isFilePath(target)) return own === undefined || own === bundle ? stateDict : own;
  return own === undefined || own.name === 'state-dict' || own.name === 'single-file' ? bundle : own;
}

function isFilePath(target: string): boolean {
  return /\.(pt|pth|bin|ckpt)$/.test(target);
}

/** Writes a model as a program does. */
export async function writeAs(program: Program, target: string, request: WriteRequest): Promise<void> {
  if (program.place === 'directory' && isFilePath(target)) {
    throw new TorchBindError(
      `save: expected a directory for a '${request.model.layout.name}' model, got the name of a file, ${target}.`,
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
