import type { ByteSource } from '../files/byte-source';
import { type FileInspection, newInspection, noting } from './report';
import { dtypeOf, textsOf } from '../gguf/load';
import { readGgufHeader } from '../gguf/read';

/** Describes a GGUF file by its header. */
export async function inspectGguf(source: ByteSource): Promise<FileInspection> {
  const report = newInspection(source.path, source.size, 'gguf');
  report.container.byteOrder = 'little';
  const header = await noting(report, () => readGgufHeader(source));
  if (header === undefined) return report;
  report.container.version = String(header.version);
  report.metadata = textsOf(header.metadata);
  report.tensors = header.entries.map((entry) => ({
    name: entry.name,
    dtype: entry.type.block === 1 ? (dtypeOf(entry) ?? entry.type.name) : entry.type.name,
    shape: entry.shape,
    bytes: entry.end - entry.begin,
    kind: 'tensor',
    storage: null,
    file: null,
  }));
  return report;
}
