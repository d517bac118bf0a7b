import { CheckpointCode, CheckpointError, withPath } from '../errors';
import { isGgufFile } from '../formats/gguf/read';
import { load } from '../formats/pt';
import { InertObject } from '../pickle/types';
import { openArchived } from './archives';
import { ofOneBundle } from './commit';
import { type Location, locate } from './locate';
import { filePrograms } from './programs';
import type { DirectoryProgram, ModelFiles, Use } from './programs/program';
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
  find?: () => Promise<Location>,
): Promise<SavedModel> {
  const archived = find === undefined ? await openArchived(target, options, openModel) : undefined;
  return archived ?? openLocated(target, options, find ?? (() => locate(target)));
}

function openLocated(target: string, options: ReadOptions, find: () => Promise<Location>): Promise<SavedModel> {
  const use = { training: options.optimizer, allowMixed: options.allowMixed ?? false };
  return readNewest(target, find, use, (files, program) =>
    program === null ? readFile(files.weights, options) : program.read(files, options, openModel),
  );
}

function readFile(file: string, options: ReadOptions): Promise<SavedModel> {
  return withPath(file, async () => {
    if (await isGgufFile(file))
      throw formatError(
        'expected a model of PyTorch, got a GGUF file of llama.cpp. load() reads its tensors; open the model that it was made from.',
      );
    // Weights, optimizer and step need no foreign class: an object of one next to them is kept as data, and written back.
    const value = await load(file, { device: options.device, exact: true, unknown: options.unknown ?? 'inert' });
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
  use: Use,
  read: (files: ModelFiles, program: DirectoryProgram | null) => Promise<T>,
): Promise<T> {
  const { result, problems, directory, warning } = await ofOneBundle(target, async () =>
    firstWhole(await find(), use, read),
  );
  if (warning !== undefined) process.emitWarning(warning, { code: 'TORCHBIND_CHANGED' });
  if (problems.length > 0) {
    const skipped = problems.map(({ message }) => message.replace(/\.$/, '')).join('; ');
    process.emitWarning(`${skipped}. Opened ${directory} instead.`, { code: 'TORCHBIND_FALLBACK' });
  }
  return result;
}

async function firstWhole<T>(
  { program, models }: Location,
  use: Use,
  read: (files: ModelFiles, program: DirectoryProgram | null) => Promise<T>,
): Promise<{ result: T; problems: CheckpointError[]; directory: string; warning: string | undefined }> {
  const problems: CheckpointError[] = [];
  for (const files of models) {
    try {
      checkComplete(files);
      const verified = await program?.verify?.(files, use);
      const result = await read(verified?.files ?? files, program);
      return { result, problems, directory: files.directory, warning: verified?.warning };
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
