import { inspect } from 'node:util';
import { checkArgument, checkOptions } from '../errors';
import type {
  ContainerInfo,
  FileInspection,
  GlobalInfo,
  InspectionProblem,
  SharedStorage,
  TensorInfo,
} from '../formats/inspect/report';
import type { JsonObject } from './files';
import type { FamilyInfo, OptimizerInfo } from './inspect-contents';
import { textOf } from './inspect-text';

/** Sums over the tensors of a checkpoint. */
export interface InspectionTotals {
  tensors: number;
  /** Elements of the model's weights; tied ones count once, and masks that are saved with them not. */
  parameters: number;
  /** Bytes of all tensors, those of the optimizer included; what shares a storage counts once. */
  bytes: number;
  byDtype: Record<string, { tensors: number; bytes: number }>;
}

/** How far the bytes are known to be what was saved. */
export interface InspectionIntegrity {
  /** What the file has for its records: CRC-32; `zero` where the writer left them out; `none` where there is no place for them. */
  checksums: FileInspection['checksums'];
  /** Whether all bytes were read and have their checksums; null where `verify` was not given, or there are none. */
  verified: boolean | null;
  /**
   * Of a bundle: whether its files are those of its manifest. `match`: by SHA-256 (`verify`); `sizes`: by size, as far as
   * was looked; `differs`; `outdated`: another program has replaced the files since; `none`: it has no manifest.
   */
  manifest: 'match' | 'sizes' | 'differs' | 'outdated' | 'none' | null;
  /** Whether a file ends too early. */
  truncated: boolean;
}

/** What a checkpoint holds, as `inspect` found it. `String(report)` is a text for people; console.log prints that. */
export class Inspection {
  /** As it was given. */
  readonly path: string;
  /** Of the file, or of all files that were looked into, in bytes. */
  readonly size: number;
  readonly container: ContainerInfo;
  /** Null where there are no weights. */
  readonly family: FamilyInfo | null;
  readonly tensors: readonly TensorInfo[];
  /** Storages under more than one tensor. */
  readonly shared: readonly SharedStorage[];
  readonly totals: InspectionTotals;
  /** What the checkpoint says of the model, in its own names; null where it says nothing. */
  readonly config: JsonObject | null;
  /** Optimizer updates made, as the checkpoint says; null where it does not. */
  readonly step: number | null;
  readonly optimizer: OptimizerInfo | null;
  /** What the pickles name. Nothing of it was looked up or called. */
  readonly globals: readonly GlobalInfo[];
  /** Text beside the tensors, as safetensors has it. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly integrity: InspectionIntegrity;
  /** Everything that is wrong; empty where `load` would read the file. */
  readonly problems: readonly InspectionProblem[];
  /** The files of a directory, with their sizes in bytes; empty for a file. */
  readonly files: readonly { name: string; size: number }[];

  /** @internal */
  constructor(values: Omit<Inspection, 'toString'>) {
    checkArgument(typeof values === 'object' && values !== null, 'what inspect() found', values, 'Inspection');
    ({
      path: this.path,
      size: this.size,
      container: this.container,
      family: this.family,
      tensors: this.tensors,
      shared: this.shared,
      totals: this.totals,
      config: this.config,
      step: this.step,
      optimizer: this.optimizer,
      globals: this.globals,
      metadata: this.metadata,
      integrity: this.integrity,
      problems: this.problems,
      files: this.files,
    } = values);
    Object.defineProperty(this, inspect.custom, { value: () => this.toString() });
  }

  /** As `formatInspection(report)`. */
  toString(): string {
    return formatInspection(this);
  }
}

export interface FormatInspectionOptions {
  /** The most tensors to list, the first ones. Default 40; `Infinity` for all. */
  tensors?: number;
}

/** The report as a text of aligned lines for people, which a terminal can show whatever the file holds. */
export function formatInspection(report: Inspection, options: FormatInspectionOptions = {}): string {
  checkArgument(report instanceof Inspection, 'a report of inspect()', report, 'formatInspection');
  checkOptions(options, ['tensors'], 'formatInspection');
  const { tensors = 40 } = options;
  checkArgument(typeof tensors === 'number' && tensors >= 0, "a number for 'tensors'", tensors, 'formatInspection');
  return textOf(report, tensors);
}
