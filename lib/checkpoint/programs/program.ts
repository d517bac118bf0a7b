import path from 'node:path';
import type { GPTModel } from '../../models/gpt-model';
import type { CheckpointLayout } from '../../models/layouts';
import type { DType } from '../../tensor/dtype';
import { packTensors } from '../../tensor/off-loop';
import { dispose } from '../../tensor/scope';
import type { Tensor } from '../../tensor/tensor';
import type { ProgramName, ReadOptions, SavedModel } from '../saved-model';
import { storageKey } from '../snapshot';

/** The files of one saved model. */
export interface ModelFiles {
  directory: string;
  /** Path of the file with the weights, or of the index of several. */
  weights: string;
  /** Names of other files in the directory with pickles in them, such as the optimizer's. */
  others: readonly string[];
  /** Names of files with pickles that are kept byte for byte, and never read. */
  kept?: readonly string[];
  /** Name of the JSON file with the model's config, if there is one. */
  config?: string | undefined;
  /** Name of the JSON file with the number of updates made (`step` or `global_step`), if there is one. */
  state?: string | undefined;
  /** How these files were found, for `origin.saw`. */
  saw?: string;
  /** What the training state in them belongs to; default: all of it to these weights. */
  stale?: 'state' | 'run';
  /** The file without which the model is not complete; undefined for one that is. */
  missing?: string | undefined;
}

/** A directory and the names in it, read once. */
export class Listing {
  readonly #names: ReadonlySet<string>;

  constructor(
    readonly directory: string,
    readonly names: readonly string[],
  ) {
    this.#names = new Set(names);
  }

  has(name: string): boolean {
    return this.#names.has(name);
  }

  at(name: string): string {
    return path.join(this.directory, name);
  }

  /** The first of some names that is there. */
  first(names: readonly string[]): string | undefined {
    return names.find((name) => this.#names.has(name));
  }
}

/** What a model is opened for. */
export interface Use {
  /** For resuming training, with the optimizer and the step. */
  training: boolean;
  /** Combine weights with the training state of others, if that is all there is. */
  allowMixed: boolean;
}

/** Files that may be used. */
export interface Verified {
  files: ModelFiles;
  /** What the user should know of them. */
  warning?: string;
}

/** What each program that saves models has in common. */
interface AnyProgram {
  name: ProgramName;
  /** The layouts of models that are saved for this program without coming from it. */
  families?: readonly string[];
  /** Whether its files hold an optimizer's state. */
  holdsOptimizer: boolean;
  /** The layout of the program's files for this model, if it differs from the model's. */
  layout?(model: GPTModel): CheckpointLayout | undefined;
  /** Writes a model as the program does: its file, or the files of its directory. */
  write(target: string, request: WriteRequest): Promise<void>;
}

/** A program that saves a model as a directory. */
export interface DirectoryProgram extends AnyProgram {
  place: 'directory';
  /** What `inspect` calls its directories. */
  container: 'bundle' | 'huggingface' | 'release' | 'distributed';
  /** The models in a directory, the newest first; none where it is not this program's. */
  locate(listing: Listing): Promise<ModelFiles[]> | ModelFiles[];
  /** The same for a directory of a run, in which each checkpoint has a directory of its own. */
  locateRun?(listing: Listing): Promise<ModelFiles[]>;
  /** A file that stands for its directory. */
  locateFile?(file: string): ModelFiles | undefined;
  /** Refuses files that are damaged, or that may not be used as asked. */
  verify?(files: ModelFiles, use: Use): Promise<Verified>;
  /** @param open reads another model, which this one belongs to */
  read(files: ModelFiles, options: ReadOptions, open: OpenModel): Promise<SavedModel>;
}

/** A program that saves a model as one file, a pickled dict. */
export interface FileProgram extends AnyProgram {
  place: 'file';
  /** How it names the file in a directory. */
  fileNames: readonly string[];
  /** Whether it wrote this dict. */
  recognise(dict: ReadonlyMap<string, unknown>): boolean;
  read(file: string, dict: Map<string, unknown>, options: ReadOptions): Promise<SavedModel> | SavedModel;
}

export type Program = DirectoryProgram | FileProgram;

export type OpenModel = (target: string, options: ReadOptions) => Promise<SavedModel>;

/** A model to be written, with what its program keeps of training. */
export interface WriteRequest {
  /** In the layout that the files get. */
  model: GPTModel;
  /** Its state dict. */
  weights: Map<string, unknown>;
  /** Optimizer updates made; null where that is not known. */
  step: number | null;
  /** In the layout's form; null for none. */
  optimizerState: ReadonlyMap<string, unknown> | null;
  /** Data that the program kept when it read the model; empty for a model from elsewhere. */
  kept: ReadonlyMap<string, unknown>;
  /** Of the weights in the files; null for what they are. */
  dtype: DType | null;
}

/** Runs `write` with the state dict in the dtype asked for, and frees the copies. */
export async function withWeights<T>(
  { weights, dtype }: Pick<WriteRequest, 'weights' | 'dtype'>,
  write: (weights: Map<string, Tensor>) => Promise<T>,
): Promise<T> {
  const own = weights as Map<string, Tensor>;
  if (dtype === null) return write(own);
  const others = [...own].filter(([, value]) => value.dtype.includes('float') && value.dtype !== dtype);
  // What is one tensor under several keys, tied weights and masks, stays one.
  const sources = new Map(others.map(([, value]) => [storageKey(value), value]));
  const packed = await packTensors([...sources.values()], dtype);
  const casts = new Map(Array.from(sources.keys(), (id, i) => [id, packed[i]!]));
  try {
    for (const [key, value] of others) own.set(key, casts.get(storageKey(value))!);
    return await write(own);
  } finally {
    dispose(packed);
  }
}
