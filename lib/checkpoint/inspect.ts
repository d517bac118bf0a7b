import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { checkFlags, checkOptions, CheckpointCode, CheckpointError, type PathLike, toPath } from '../errors';
import { inspectFile, mergeFile } from '../formats/inspect/file';
import {
  addProblem,
  type FileInspection,
  type InspectionProblem,
  noting,
  type TensorInfo,
} from '../formats/inspect/report';
import { withUnpacked } from './archives';
import { ofOneBundle } from './commit';
import { exists, type JsonObject, readOptionalJson, stepIn } from './files';
import { type Contents, contentsOf, countParameters, familyOf } from './inspect-contents';
import { Inspection, type InspectionIntegrity, type InspectionTotals } from './inspection';
import { type Location, locate } from './locate';
import { differences, readManifest } from './manifest';
import type { ModelFiles } from './programs/program';
import { readSums, sumDifferences } from './release-sums';
import { examine } from './verdict';

/** Options of `inspect`. */
export interface InspectOptions {
  /** Read every byte, and compare checksums: CRC-32 of zip records, SHA-256 of a bundle's manifest. Default false. */
  verify?: boolean;
}

/**
 * Says what a file or directory of checkpoints holds, without reading its tensors and without running anything in it: the
 * container, the family of the weights and why it is thought to be that, all tensors, config, step, the optimizer, every
 * class and function that the pickles name with a verdict, and whether the bytes are whole.
 *
 * Takes what `load`, `loadSafetensors` and `GPT.load` open, and files that they refuse: what is wrong with those is in
 * `problems`, besides what could still be read. A hostile pickle is described, never run.
 *
 * @throws CheckpointError if the file does not exist, cannot be read or is empty, or if a directory holds no checkpoint
 */
export async function inspect(from: PathLike, options: InspectOptions = {}): Promise<Inspection> {
  checkOptions(options, ['verify'], 'inspect');
  const { verify = false } = options;
  const target = toPath(from, 'inspect');
  checkFlags({ verify }, 'inspect');
  return withUnpacked(target, (place) =>
    ofOneBundle(place, async () => inspectAt(await locate(place), verify, target)),
  );
}

/** Looks at the newest model that is complete; one that is damaged is described as it is. */
async function inspectAt(
  { path: target, program, models }: Location,
  verify: boolean,
  named: string,
): Promise<Inspection> {
  const files = (await firstComplete(models)) ?? models[0];
  // Files of one program, whose contents say all.
  const isWhole = program === null || program.container === 'distributed';
  if (isWhole || target === files.weights) {
    const report = await inspectFile(files.weights, verify);
    if (isWhole && files.directory !== target && program !== null)
      report.container.notes.push(`in ${path.relative(target, files.directory)}`);
    const contents = contentsOf(report);
    contents.step ??= stepIn(await json(report, files.directory, files.state));
    return complete(report, contents, target === files.weights ? {} : { path: named, files: await filesOf(target) });
  }
  const report = await openAll(files, verify);
  report.container.kind = program.container;
  if (files.directory !== target) report.container.notes.push(`in ${path.relative(target, files.directory)}`);
  const config = await json(report, files.directory, files.config);
  const step = stepIn(await json(report, files.directory, files.state));
  const found = { ...report.contents, config: config ?? null, step };
  const manifest = program.verify
    ? await compareManifest(report, files.directory, verify)
    : await compareSums(report, files.directory, verify);
  return complete(report, found, { path: named, files: await filesOf(files.directory), manifest: manifest ?? null });
}

async function firstComplete(models: readonly ModelFiles[]): Promise<ModelFiles | undefined> {
  for (const files of models) if (files.missing === undefined && (await exists(files.weights))) return files;
  return undefined;
}

interface OpenedFiles extends FileInspection {
  contents: Contents;
}

/** The file of weights, and others in its directory. */
async function openAll({ directory, weights, others, kept = [] }: ModelFiles, verify: boolean): Promise<OpenedFiles> {
  const name = path.basename(weights);
  const first = await inspectFile(weights, verify);
  const contents = contentsOf(first);
  const isSharded = first.container.kind === 'shards';
  const report = { ...first, tensors: first.tensors.map((tensor) => (isSharded ? tensor : { ...tensor, file: name })) };
  report.container = { ...first.container, notes: [`${name}: ${first.container.kind}`, ...first.container.notes] };
  report.problems = first.problems.map((problem) => ({ ...problem, file: problem.file ?? name }));
  let { optimizer } = contents;
  for (const other of others) {
    if (!(await exists(path.join(directory, other)))) continue;
    const found = await noting(report, () => inspectFile(path.join(directory, other), verify));
    if (found === undefined) continue;
    mergeFile(report, found, other);
    optimizer ??= contentsOf(found).optimizer;
  }
  for (const name of kept) {
    const found = await noting(report, () => inspectFile(path.join(directory, name), verify));
    if (found !== undefined)
      mergeFile(report, { ...found, problems: found.problems.filter(isDamage), tensors: [] }, name);
  }
  return { ...report, contents: { ...contents, optimizer } };
}

/** For a file that is never unpickled: names in its pickles are listed in `globals` and are not a problem. */
function isDamage({ code }: InspectionProblem): boolean {
  return code !== CheckpointCode.global && code !== CheckpointCode.unsupported;
}

async function json(
  report: FileInspection,
  directory: string,
  name: string | undefined,
): Promise<JsonObject | undefined> {
  return name === undefined ? undefined : noting(report, () => readOptionalJson(path.join(directory, name)));
}

async function compareManifest(
  report: FileInspection,
  directory: string,
  verify: boolean,
): Promise<InspectionIntegrity['manifest']> {
  const manifest = await noting(report, () => readManifest(directory));
  if (manifest === undefined) return 'none';
  const found = await differences(directory, manifest, verify);
  if (found.length === 0) return verify ? 'match' : 'sizes';
  const { verdict } = (await examine(directory))!;
  if (verdict === 'newer' || verdict === 'weights-only') return 'outdated';
  for (const { name, reason } of found) {
    const message = `${name} is not the file that was saved: ${reason}`;
    addProblem(report, new CheckpointError(message, CheckpointCode.checksum));
  }
  return 'differs';
}

/** Of a release package; null for what has no checksums, or where they were not asked for. */
async function compareSums(
  report: FileInspection,
  directory: string,
  verify: boolean,
): Promise<InspectionIntegrity['manifest']> {
  const sums = verify ? await noting(report, () => readSums(directory)) : undefined;
  if (sums === undefined) return null;
  const found = await sumDifferences(directory, sums);
  for (const message of found) addProblem(report, new CheckpointError(message, CheckpointCode.checksum));
  return found.length === 0 ? 'match' : 'differs';
}

async function filesOf(directory: string): Promise<Inspection['files']> {
  const entries = await readdir(directory, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isFile() || entry.isSymbolicLink()).map(({ name }) => name);
  const sizes = await Promise.all(
    names.slice(0, 1000).map((name) =>
      stat(path.join(directory, name)).then(
        ({ size }) => ({ name, size }),
        () => ({ name, size: 0 }),
      ),
    ),
  );
  return sizes.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function complete(
  report: FileInspection,
  { weights, optimizer, config, step }: Contents,
  place: { path?: string; files?: Inspection['files']; manifest?: InspectionIntegrity['manifest'] } = {},
): Inspection {
  const { size, container, tensors, shared, globals, metadata, checksums, verified, problems } = report;
  const truncated = problems.some(({ code }) => code === CheckpointCode.truncated);
  return new Inspection({
    path: place.path ?? report.path,
    size,
    container,
    family: familyOf(weights, container.kind === 'huggingface' ? config : null),
    tensors,
    shared,
    totals: totalsOf(report, countParameters(weights)),
    config,
    step,
    optimizer,
    globals,
    metadata,
    integrity: { checksums, verified, manifest: place.manifest ?? null, truncated },
    problems,
    files: place.files ?? [],
  });
}

function totalsOf({ tensors, shared }: FileInspection, parameters: number): InspectionTotals {
  const byDtype: InspectionTotals['byDtype'] = {};
  for (const { dtype, bytes } of tensors) {
    const total = (byDtype[dtype] ??= { tensors: 0, bytes: 0 });
    total.tensors++;
    total.bytes += bytes;
  }
  const id = ({ file, storage }: TensorInfo): string => `${file ?? ''}\0${storage ?? ''}`;
  const sums = new Map<string, number>();
  for (const tensor of tensors)
    if (tensor.storage !== null) sums.set(id(tensor), (sums.get(id(tensor)) ?? 0) + tensor.bytes);
  const separate = tensors.filter(({ storage }) => storage === null).reduce((sum, { bytes }) => sum + bytes, 0);
  const limits = new Map(shared.map(({ storage, bytes, file }) => [`${file ?? ''}\0${storage}`, bytes]));
  const stored = [...sums].reduce((sum, [key, bytes]) => sum + Math.min(bytes, limits.get(key) ?? bytes), 0);
  return { tensors: tensors.length, parameters, bytes: separate + stored, byDtype };
}
