import { stat } from 'node:fs/promises';
import path from 'node:path';
import { containerError } from '../../errors';
import { GlobalError } from '../../pickle/globals';
import { withSource } from '../files/byte-source';
import { openDistributed, sliceOf } from '../dcp/load';
import { type Entry, metadataGlobals, slicesOf } from '../dcp/metadata';
import { metadataFiles } from '../dcp/place';
import { nested } from '../dcp/tree';
import { maxPickleSize } from '../pt/archive';
import { TensorNote } from '../pt/tensor-notes';
import { inspectZip } from './pt';
import { addProblem, type FileInspection, newInspection, noteGlobals, noting } from './report';

/**
 * Describes a distributed checkpoint: its tensors from the metadata, its other values from their slices. With `verify` the slices
 * of the tensors are read too, and their checksums compared.
 */
export async function inspectDistributed(directory: string, verify: boolean): Promise<FileInspection> {
  const report = newInspection(directory, 0, 'distributed');
  for (const name of metadataFiles(directory)) {
    const file = path.join(directory, name);
    report.size += (await stat(file)).size;
    await noting(report, () =>
      withSource(file, async (source) => {
        if (source.size <= maxPickleSize)
          await noteGlobals(report, await source.read(0, source.size), name, metadataGlobals);
      }),
    );
  }
  const metadata = await noting(report, () => openDistributed(directory));
  if (metadata === undefined) return report;
  const { entries, version } = metadata;
  const files = [...new Set(entries.flatMap((entry) => slicesOf(entry).map((slice) => slice.file)))];
  for (const name of files) report.size += (await stat(path.join(directory, name))).size;
  const chunks = entries.reduce((sum, entry) => sum + ('chunks' in entry ? entry.chunks.length : 0), 0);
  Object.assign(report.container, { version, records: files.length });
  report.container.notes.push(`${chunks} chunks in ${files.length} files`);
  const notes = new Map(entries.map((entry) => [entry, noteOf(entry)]));
  report.tensors = entries.flatMap((entry) => {
    const note = notes.get(entry);
    if (note === undefined) return [];
    const { shape, bytes } = note;
    const file =
      files.length > 1 && new Set(slicesOf(entry).map((slice) => slice.file)).size === 1
        ? slicesOf(entry)[0]!.file
        : null;
    return [{ name: entry.key, dtype: note.dtype.name, shape, bytes, kind: 'tensor' as const, storage: null, file }];
  });
  const values = new Map<Entry, unknown>(notes);
  await inspectSlices(report, directory, entries, verify, values);
  try {
    report.value = nested(entries.map((entry) => [entry.path, values.get(entry)] as const));
  } catch (error) {
    if (!(error instanceof GlobalError)) throw error;
    addProblem(report, containerError(`planner_data: ${error.message}`));
  }
  return report;
}

function noteOf(entry: Entry): TensorNote | undefined {
  if (!('chunks' in entry)) return undefined;
  const { dtype, shape } = entry;
  const bytes = shape.reduce((product, size) => product * size, dtype.itemSize);
  return new TensorNote(dtype, shape, 'tensor', bytes, null);
}

/** Problems of many slices say nothing new. */
const maxProblems = 100;

async function inspectSlices(
  report: FileInspection,
  directory: string,
  entries: readonly Entry[],
  verify: boolean,
  values: Map<Entry, unknown>,
): Promise<void> {
  const names = new Map(report.globals.map((info) => [info.name, info]));
  const looked = entries.filter((entry) => verify || !('chunks' in entry));
  for (const entry of looked) {
    for (const slice of slicesOf(entry)) {
      if (report.problems.length > maxProblems) return;
      const found = await noting(report, () =>
        withSource(path.join(directory, slice.file), async (source) =>
          inspectZip(await sliceOf(source, slice), verify),
        ),
      );
      if (found === undefined) continue;
      if (!('chunks' in entry)) values.set(entry, found.value);
      report.checksums = found.checksums;
      if (found.verified !== null) report.verified = found.verified && report.verified !== false;
      for (const info of found.globals) {
        const record = `${entry.key.slice(0, 200)}: ${info.record}`;
        if (!names.has(info.name)) names.set(info.name, { ...info, record });
      }
      report.problems.push(
        ...found.problems.map((problem) => ({
          ...problem,
          message: `${JSON.stringify(entry.key.slice(0, 200))}: ${problem.message}`,
          file: slice.file,
        })),
      );
    }
  }
  report.globals = [...names.values()];
}
