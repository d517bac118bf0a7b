import type { DType } from '../../tensor/dtype';
import { hiddenName, judgeName, type Verdict } from '../../pickle/verdicts';
import { attackText, type GlobalTable } from '../../pickle/globals';
import { type SurveyedGlobal, surveyPickle } from '../../pickle/survey';
import { runInSlices } from '../../workers/slices';
import { TensorChecker } from '../pt/archive';
import { CheckpointCode, CheckpointError } from '../../errors';
import { namedNotes, type NamedNote, type TensorKind } from '../pt/tensor-notes';
import { torchGlobals } from '../pt/torch-globals';

/** What holds the tensors. */
export type ContainerKind =
  /** What `torch.save` has written since PyTorch 1.6. */
  | 'zip'
  /** One stream of pickles and storages, before PyTorch 1.6. */
  | 'stream'
  /** The tar of PyTorch 0.1. */
  | 'tar'
  | 'safetensors'
  /** A model for llama.cpp. */
  | 'gguf'
  /** A release package, which `gpt.export` wrote. */
  | 'release'
  /** An index and the files of weights that it names. */
  | 'shards'
  /** A zip that holds a program: TorchScript, torch.export, torch.package. */
  | 'program'
  /** A pickle without a container. */
  | 'pickle'
  /** Not a file of tensors. */
  | 'unknown'
  /** A directory with model.pt and config.json, and what training needs. */
  | 'bundle'
  /** A directory of Hugging Face: config.json and weights. */
  | 'huggingface'
  /** A directory of `torch.distributed.checkpoint`: metadata, and the parts of each rank. */
  | 'distributed'
  /** A directory with checkpoints that hold everything in one file. */
  | 'directory';

/** The file that was inspected. */
export interface ContainerInfo {
  kind: ContainerKind;
  /** The container's own version, as the file states it; null where it has none. */
  version: string | null;
  /** Of the tensors' bytes; null where the file does not say. */
  byteOrder: 'little' | 'big' | null;
  /** Records of the zip, members of the tar, files of a directory; null where that says nothing. */
  records: number | null;
  /** Notes in words: how it is compressed, what the program in it is. */
  notes: string[];
}

/** A tensor in an inspected file: its key, dtype, shape and place. */
export interface TensorInfo {
  /** The keys that lead to it, joined by dots: `model.lm_head.weight`. Cut where it is longer than 500 characters. */
  name: string;
  /** As in `torch.float32`, without the prefix; for what PyTorch lacks, the format's own name. */
  dtype: DType | (string & {});
  shape: readonly number[];
  /** Bytes of its elements. */
  bytes: number;
  /** `array` is one of NumPy, `meta` has no data. */
  kind: TensorKind;
  /** The storage that holds its bytes, by its name in the container (`data/0`); null if the format has no storages. */
  storage: string | null;
  /** The file that it is in, where the tensors are in several; else null. */
  file: string | null;
}

/** Tensors over one storage: tied weights, views. */
export interface SharedStorage {
  storage: string;
  bytes: number;
  /** Names of the tensors. */
  tensors: string[];
  /** The file that it is in, where the tensors are in several; else null. */
  file: string | null;
}

/** A class or function that a pickle of the file names. */
export interface GlobalInfo {
  /** `collections.OrderedDict` */
  name: string;
  /**
   * `known`: PyTorch's own, of which torchbind makes data. `inert`: a class or function that torchbind does not know; `load`
   * refuses it, or gives it as data with `unknown: 'inert'`. `code`: as `inert`, but it runs code where Python unpickles the file,
   * as honest files do too. `attack-only`: runs programs, loads code or the like; no checkpoint has a use for it, and `load`
   * refuses it always.
   */
  verdict: Verdict;
  /** Why, as the end of a sentence that begins with the name: `runs programs`. */
  reason: string;
  /** Whether the pickle would have Python call it. Nothing is called here. */
  called: boolean;
  /** The pickle that names it, and the byte in it. */
  record: string;
  offset: number;
}

/** Something that is wrong with a file. */
export interface InspectionProblem {
  /** Of the error that `load` throws for it. */
  code: string;
  message: string;
  /** Where, in a directory or among shards. */
  file: string | null;
}

/** What was found in one file. */
export interface FileInspection {
  path: string;
  /** In bytes. */
  size: number;
  container: ContainerInfo;
  tensors: TensorInfo[];
  shared: SharedStorage[];
  globals: GlobalInfo[];
  /** Text that the file holds besides the tensors, as safetensors has it. */
  metadata: Record<string, string>;
  /** `zero` where a zip's writer left them out. */
  checksums: 'crc32' | 'zero' | 'none';
  /** Whether every byte was read and compared with its checksum; null where that was not asked for or cannot be. */
  verified: boolean | null;
  problems: InspectionProblem[];
  /** The pickle's value, with notes in the place of tensors; undefined where it could not be read. */
  value: unknown;
}

/** Begins a report. */
export function newInspection(path: string, size: number, kind: ContainerKind): FileInspection {
  return {
    path,
    size,
    container: { kind, version: null, byteOrder: null, records: null, notes: [] },
    tensors: [],
    shared: [],
    globals: [],
    metadata: {},
    checksums: 'none',
    verified: null,
    problems: [],
    value: undefined,
  };
}

/** Runs a part of an inspection. A fault in the file is recorded as a problem, and undefined returned. */
export async function noting<T>(report: FileInspection, body: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await body();
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
    addProblem(report, error);
    return undefined;
  }
}

export function addProblem(report: FileInspection, { code, message }: CheckpointError): void {
  if (!report.problems.some((problem) => problem.message === message))
    report.problems.push({ code, message, file: null });
}

const known: GlobalTable = torchGlobals(new TensorChecker(false));

/** Notes what a pickle names, besides what is in the table. Gives whether it can be followed to its end. */
export async function noteGlobals(
  report: FileInspection,
  bytes: Uint8Array,
  record: string,
  table: GlobalTable = known,
): Promise<boolean> {
  const { globals, problem } = await runInSlices(surveyPickle(bytes));
  const byName = new Map(report.globals.map((info) => [info.name, info]));
  for (const global of globals) {
    const { called, offset } = global;
    const name = fullName(global);
    const earlier = byName.get(name);
    if (earlier === undefined) byName.set(name, { name, ...verdictOf(global, table), called, record, offset });
    else earlier.called ||= called;
  }
  report.globals = [...byName.values()];
  if (problem !== undefined) addProblem(report, problem);
  noteAttacks(report);
  return problem === undefined;
}

/** More names of a hostile file would say no more; all are in `globals`. */
const maxAttacks = 20;

/** A name that only an attack has a use for is a problem of the file, whether `load` comes upon it or not. */
function noteAttacks(report: FileInspection): void {
  const attacks = report.globals.filter(({ verdict }) => verdict === 'attack-only').slice(0, maxAttacks);
  for (const { name, reason, record, offset } of attacks)
    addProblem(report, new CheckpointError(attackText(name, reason), CheckpointCode.global, { record, offset }));
}

function fullName({ module, name }: SurveyedGlobal): string {
  return `${module === '__builtin__' ? 'builtins' : module}.${name}`;
}

function verdictOf(global: SurveyedGlobal, table: GlobalTable): Pick<GlobalInfo, 'verdict' | 'reason'> {
  const { module, name } = global;
  if (table.has(fullName(global))) return { verdict: 'known', reason: 'is read as data' };
  // A name that is computed, or stands in Python's registry, hides what it is.
  const isHidden = module === '?' || name === '?' || (module === 'copyreg' && name.startsWith('extension '));
  return isHidden ? hiddenName : judgeName(module, name);
}

/** Notes a pickle's value, and the tensors in it. */
export function noteValue(report: FileInspection, value: unknown, recordOf: (key: string) => string): void {
  report.value = value;
  const notes = namedNotes(value);
  report.tensors = notes.map(({ name, note }) => ({
    name,
    dtype: note.dtype.name,
    shape: note.shape,
    bytes: note.bytes,
    kind: note.kind,
    storage: note.place === null ? null : recordOf(note.place.storage.key),
    file: null,
  }));
  report.shared = sharedStorages(notes, recordOf);
}

function sharedStorages(notes: NamedNote[], recordOf: (key: string) => string): SharedStorage[] {
  const byKey = new Map<string, SharedStorage>();
  for (const { name, note } of notes) {
    if (note.place === null) continue;
    const { key, nbytes } = note.place.storage;
    const found = byKey.get(key);
    if (found === undefined) byKey.set(key, { storage: recordOf(key), bytes: nbytes, tensors: [name], file: null });
    else found.tensors.push(name);
  }
  return [...byKey.values()].filter(({ tensors }) => tensors.length > 1);
}
