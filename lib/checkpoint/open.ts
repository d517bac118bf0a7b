import { CheckpointCode, CheckpointError, withPath } from '../errors';
import { load } from '../formats/pt';
import { InertObject } from '../pickle/types';
import { ofOneBundle } from './commit';
import { type Location, locate } from './locate';
import { filePrograms } from './programs';
import type { DirectoryProgram, ModelFiles } from './programs/program';
import { formatError, mapIn, type ReadOptions, type SavedModel } from './saved-model';

/**
 * Reads the model that is at a path, whichever program saved it.
 *
 * @param find where it is, if that is known
 * @throws CheckpointError saying what was looked for; ERR_TORCHBIND_LAYOUT for weights of no known family
 */
export async function openModel(
  target: string,
  options: ReadOptions,
  find: () => Promise<Location> = () => locate(target),
): Promise<SavedModel> {
  return readNewest(target, find, (files, program) =>
    program === null ? readFile(files.weights, options) : program.read(files, options, openModel),
  );
}

function readFile(file: string, options: ReadOptions): Promise<SavedModel> {
  return withPath(file, async () => {
    // Weights, optimizer and step need no foreign class: an object of one next to them is kept as data, and written back.
    const value = await load(file, { device: options.device, exact: true, unknown: 'inert' });
    if (value instanceof InertObject) {
      throw formatError(
        `expected a dict, got a pickled ${value.module}.${value.name}, which only its program can open. ` +
          'Save its state dict in Python: torch.save(model.state_dict(), path).',
      );
    }
    const dict = mapIn(value);
    const program = filePrograms.find((candidate) => candidate.recognise(dict))!;
    return program.read(file, dict, options);
  });
}

/**
 * Reads the newest model at a path while others may be saving there: what `read` gives is of one save. Where the newest is
 * damaged or not complete the one before is read, with a warning.
 *
 * @throws CheckpointError of the newest where none is whole
 */
export async function readNewest<T>(
  target: string,
  find: () => Promise<Location>,
  read: (files: ModelFiles, program: DirectoryProgram | null) => Promise<T>,
): Promise<T> {
  const { result, problems, directory } = await ofOneBundle(target, async () => firstWhole(await find(), read));
  if (problems.length > 0) {
    const skipped = problems.map(({ message }) => message.replace(/\.$/, '')).join('; ');
    process.emitWarning(`${skipped}. Opened ${directory} instead.`, { code: 'TORCHBIND_FALLBACK' });
  }
  return result;
}

async function firstWhole<T>(
  { program, models }: Location,
  read: (files: ModelFiles, program: DirectoryProgram | null) => Promise<T>,
): Promise<{ result: T; problems: CheckpointError[]; directory: string }> {
  const problems: CheckpointError[] = [];
  for (const files of models) {
    try {
      checkComplete(files);
      await program?.verify?.(files);
      return { result: await read(files, program), problems, directory: files.directory };
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error;
      problems.push(error);
    }
  }
  throw problems[0]!;
}

function checkComplete({ directory, missing }: ModelFiles): void {
  if (missing === undefined) return;
  throw new CheckpointError(`${directory} is not complete: it has no ${missing}`, CheckpointCode.open);
}
