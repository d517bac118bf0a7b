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
import { plural, printable } from './text-table';

/** Sums over the tensors of a checkpoint. */
export interface InspectionTotals {
  tensors: number;
  /** Number of elements of the model's weights. Tied weights count once, saved masks not at all. */
  parameters: number;
  /** Bytes of all tensors, including the optimizer's. A shared storage counts once. */
  bytes: number;
  byDtype: Record<string, { tensors: number; bytes: number }>;
}

/** Integrity of the bytes, as far as it was checked. */
export interface InspectionIntegrity {
  /** Checksums of the records: `crc32`; `zero` if the writer left them out; `none` if the format has none. */
  checksums: FileInspection['checksums'];
  /** Whether all bytes match their checksums; null without `verify`, or without checksums. */
  verified: boolean | null;
  /**
   * For a bundle: whether its files match its manifest. `match`: by SHA-256 (`verify`); `sizes`: by size only;
   * `differs`; `outdated`: another program has replaced the files since; `none`: without a manifest. null for other
   * files.
   */
  manifest: 'match' | 'sizes' | 'differs' | 'outdated' | 'none' | null;
  /** Whether a file ends too early. */
  truncated: boolean;
}

/** Result of `inspect`. `String(report)` is readable text, which console.log prints. */
export class Inspection {
  /** The path that was passed. */
  readonly path: string;
  /** Size of the file, or of all inspected files, in bytes. */
  readonly size: number;
  readonly container: ContainerInfo;
  /** Null without weights. */
  readonly family: FamilyInfo | null;
  readonly tensors: readonly TensorInfo[];
  /** Storages that several tensors share. */
  readonly shared: readonly SharedStorage[];
  readonly totals: InspectionTotals;
  /** The model's config in the checkpoint's own names; null if the checkpoint has none. */
  readonly config: JsonObject | null;
  /** Number of optimizer updates made; null if the checkpoint does not say. */
  readonly step: number | null;
  readonly optimizer: OptimizerInfo | null;
  /** Classes and functions that the pickles name. None of them was looked up or called. */
  readonly globals: readonly GlobalInfo[];
  /** Metadata of safetensors and GGUF files. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly integrity: InspectionIntegrity;
  /** Everything that is wrong; empty if `load` reads the file with default options. */
  readonly problems: readonly InspectionProblem[];
  /** Files of a directory with their sizes in bytes; empty for a file. */
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

/** Options of `formatInspection`. */
export interface FormatInspectionOptions {
  /** Maximum number of tensors to list. Default 40; `Infinity` for all. */
  tensors?: number;
}

/** Formats a report as aligned text for people. Control characters from the file are escaped. */
export function formatInspection(report: Inspection, options: FormatInspectionOptions = {}): string {
  checkArgument(report instanceof Inspection, 'a report of inspect()', report, 'formatInspection');
  checkOptions(options, ['tensors'], 'formatInspection');
  const { tensors = 40 } = options;
  checkArgument(typeof tensors === 'number' && tensors >= 0, "a number for 'tensors'", tensors, 'formatInspection');
  return textOf(report, tensors);
}

/** The report as aligned lines, with the first `limit` tensors. */
function textOf(report: Inspection, limit: number): string {
  const lines: [string, string[]][] = [
    ['path', [report.path]],
    ['container', [containerText(report)]],
    ['family', familyText(report)],
    ['totals', [totalsText(report)]],
    ['step', report.step === null ? [] : [String(report.step)]],
    ['config', report.config === null ? [] : wrap(Object.entries(report.config).map(fieldText))],
    ['optimizer', optimizerText(report)],
    ['metadata', wrap(Object.entries(report.metadata).map(fieldText))],
    ['globals', globalsText(report.globals)],
    ['integrity', [integrityText(report)]],
    ['problems', report.problems.map(({ file, message }) => (file === null ? message : `${file}: ${message}`))],
    ['shared', sharedText(report)],
    ['files', wrap(report.files.map(({ name, size }) => `${name} ${humanSize(size)}`))],
    ['tensors', tensorTable(report.tensors, limit)],
  ];
  const rows = lines.flatMap(([label, texts]) =>
    texts.map((text, i) => `${(i === 0 ? label : '').padEnd(10)}  ${printable(text)}`.trimEnd()),
  );
  return rows.join('\n');
}

function containerText({ container, size }: Inspection): string {
  const { kind, version, byteOrder, records, notes } = container;
  const facts = [
    version === null ? kind : `${kind} version ${version}`,
    humanSize(size),
    ...(byteOrder === null ? [] : [`${byteOrder}-endian`]),
    ...(records === null ? [] : [plural(records, kind === 'shards' || kind === 'huggingface' ? 'file' : 'record')]),
  ];
  return [...facts, ...notes].join(', ');
}

function familyText({ family }: Inspection): string[] {
  if (family === null) return [];
  return [family.name ?? 'not known', ...family.saw.map((text) => `  ${text}`)];
}

function totalsText({ totals }: Inspection): string {
  const { tensors, parameters, bytes, byDtype } = totals;
  const dtypes = Object.entries(byDtype).map(
    ([dtype, total]) => `${total.tensors} of ${dtype} ${humanSize(total.bytes)}`,
  );
  const parts = dtypes.length === 0 ? '' : ` (${dtypes.join(', ')})`;
  return `${plural(parameters, 'parameter')}, ${plural(tensors, 'tensor')}, ${humanSize(bytes)}${parts}`;
}

function optimizerText({ optimizer }: Inspection): string[] {
  if (optimizer === null) return [];
  const { states, parts, dtypes, bytes } = optimizer;
  const of = parts.length === 0 ? '' : ` of ${parts.join(', ')}`;
  const text = `${plural(states, 'state')}${of}${dtypes.length === 0 ? '' : ` in ${dtypes.join(', ')}`}, ${humanSize(bytes)}`;
  const groups = optimizer.groups.map(({ lr, weightDecay, parameters, named }, i) => {
    const facts = [`lr ${lr ?? 'not a number'}`, ...(weightDecay === null ? [] : [`weight decay ${weightDecay}`])];
    return `group ${i}: ${plural(parameters, 'parameter')}${named ? ' by name' : ''}, ${facts.join(', ')}`;
  });
  return [text, ...groups];
}

/** What is harmful first, and every known name in one line. */
function globalsText(globals: readonly GlobalInfo[]): string[] {
  const of = (verdict: GlobalInfo['verdict']): GlobalInfo[] => globals.filter((global) => global.verdict === verdict);
  const named = (verdict: GlobalInfo['verdict']): string[] =>
    of(verdict).map(({ name, reason, called, record, offset }) => {
      return `${verdict}: ${name} ${reason}${called ? ', called' : ''} (${record}, byte ${offset})`;
    });
  const known = of('known').map(({ name }) => name);
  return [
    ...named('attack-only'),
    ...named('code'),
    ...named('inert'),
    ...wrap(known.map((name, i) => (i === 0 ? `known: ${name}` : name))),
  ];
}

function integrityText({ integrity, problems }: Inspection): string {
  const { checksums, verified, manifest, truncated } = integrity;
  const checked = verified === null ? 'not verified' : verified ? 'verified' : 'wrong';
  const texts = {
    crc32: `CRC-32 ${checked}`,
    zero: 'CRC-32 left out by the writer',
    none: 'no checksums in the file',
  };
  const manifests = {
    match: 'the files are those of the manifest',
    sizes: 'the files have the sizes of the manifest',
    differs: 'the files differ from the manifest',
    outdated: 'the files are newer than the manifest, which does not count',
    none: 'no manifest',
  };
  const facts = [texts[checksums], ...(manifest === null ? [] : [manifests[manifest]])];
  if (truncated) facts.push('cut short');
  return [...facts, problems.length === 0 ? 'no problems' : plural(problems.length, 'problem')].join(', ');
}

const maxShared = 20;

function sharedText({ shared }: Inspection): string[] {
  const lines = shared.slice(0, maxShared).map(({ file, storage, tensors }) => {
    const more = tensors.length > 4 ? ` and ${tensors.length - 4} more` : '';
    return `${file === null ? '' : `${file} `}${storage}: ${tensors.slice(0, 4).join(', ')}${more}`;
  });
  return shared.length > maxShared ? [...lines, `... and ${shared.length - maxShared} more`] : lines;
}

function tensorTable(tensors: readonly TensorInfo[], limit: number): string[] {
  const shown = tensors.slice(0, limit);
  const several = new Set(tensors.map(({ file }) => file)).size > 1;
  const rows = shown.map(({ name, dtype, shape, bytes, kind, file }) => [
    printable(name),
    dtype,
    `[${shape.join(', ')}]`,
    humanSize(bytes),
    [...(kind === 'tensor' || kind === 'parameter' ? [] : [kind]), ...(several && file !== null ? [file] : [])].join(
      ', ',
    ),
  ]);
  const widths = [0, 1, 2, 3].map((column) => Math.max(0, ...rows.map((row) => Math.min(row[column]!.length, 72))));
  const lines = rows.map(([name, dtype, shape, size, note]) => {
    const cells = [name!.padEnd(widths[0]!), dtype!.padEnd(widths[1]!), shape!.padEnd(widths[2]!)];
    return [...cells, size!.padStart(widths[3]!), note!].join('  ').trimEnd();
  });
  return tensors.length > shown.length ? [...lines, `... and ${tensors.length - shown.length} more`] : lines;
}

function fieldText([name, value]: [string, unknown]): string {
  const text = typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value);
  return `${name} ${text.length > 60 ? `${text.slice(0, 60)}…` : text}`;
}

const lineWidth = 100;

/** Joins texts by commas into lines of about a hundred characters. */
function wrap(texts: readonly string[]): string[] {
  const lines: string[] = [];
  for (const text of texts) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + text.length < lineWidth) lines[lines.length - 1] = `${last}, ${text}`;
    else lines.push(text);
  }
  return lines;
}

/** 12.3 MiB */
function humanSize(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let [value, unit] = [bytes, 0];
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]!}`;
}
