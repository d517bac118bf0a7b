import { stat } from 'node:fs/promises';
import path from 'node:path';
import { describe, TorchBindError } from '../errors';
import { writeBuildLlm } from './programs/build-llm';
import type { ModelToWrite } from './programs/program';
import { writeHfGpt2 } from './programs/hf-gpt2';
import { writeHfTrainer } from './programs/hf-trainer';
import { writePeft } from './programs/peft';
import { writeNanoGpt } from './programs/nanogpt';
import { writeSingleFile } from './programs/single-file';
import { writeStateDict } from './programs/state-dict';
import { nanogptFile } from './open';
import type { FormName, Origin } from './saved-model';

/** Writes a model in one form: a file, or the files of a directory. */
type Writer = (target: string, request: ModelToWrite) => Promise<void>;

/** The forms but the bundle, which has a way of its own. */
const writers: Partial<Record<FormName, { write: Writer; place: 'file' | 'directory'; holdsOptimizer: boolean }>> = {
  nanogpt: { write: writeNanoGpt, place: 'file', holdsOptimizer: true },
  'single-file': { write: writeSingleFile, place: 'file', holdsOptimizer: true },
  'build-llm': { write: writeBuildLlm, place: 'file', holdsOptimizer: true },
  'state-dict': { write: writeStateDict, place: 'file', holdsOptimizer: false },
  'hf-gpt2': { write: writeHfGpt2, place: 'directory', holdsOptimizer: false },
  'hf-trainer': { write: writeHfTrainer, place: 'directory', holdsOptimizer: true },
  peft: { write: writePeft, place: 'directory', holdsOptimizer: false },
};

/** The form in which a family's own program keeps its models. */
const familyForms: Readonly<Record<string, FormName>> = {
  nanogpt: 'nanogpt',
  'hf-gpt2': 'hf-gpt2',
};

/** Whether a form has a place for an optimizer's state. */
export function holdsOptimizer(form: FormName): boolean {
  return writers[form]?.holdsOptimizer ?? false;
}

/**
 * The form to save in: the one that the model came in, or where it goes to another family, that family's own. A path
 * that is a file's never gets a bundle, nor a directory a single file.
 */
export function chooseForm(target: string, layout: string, origin: Origin | undefined): FormName {
  const form = origin?.form ?? familyForms[layout] ?? 'bundle';
  if (isFilePath(target)) return form === 'bundle' ? 'state-dict' : form;
  return form === 'state-dict' || form === 'single-file' ? 'bundle' : form;
}

function isFilePath(target: string): boolean {
  return /\.(pt|pth|bin|ckpt)$/.test(target);
}

/** Writes a model in a form other than the bundle. */
export async function writeForm(form: FormName, target: string, request: ModelToWrite): Promise<void> {
  const writer = writers[form];
  if (writer === undefined) {
    throw new TorchBindError(
      `save: there is no writing in the form ${describe(form)}.`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  if (writer.place === 'directory' && isFilePath(target)) {
    throw new TorchBindError(
      `save: a '${request.model.layout.name}' model goes to a directory, and ${target} is the name of a file.`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  await writer.write(writer.place === 'file' ? await fileIn(target) : target, request);
}

/** A directory as the target of a form that is one file. */
async function fileIn(target: string): Promise<string> {
  const info = await stat(target).catch(() => undefined);
  return info?.isDirectory() === true ? path.join(target, nanogptFile) : target;
}
