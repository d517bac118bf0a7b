import { readFile, stat } from 'node:fs/promises';
import { type ExportOptions, type ExportResult, GPT } from '../gpt';
import { usageError } from './errors';
import { findModel } from './models';
import { formatBytes, print } from './output';

export interface ExportFlags extends Omit<ExportOptions, 'heldText' | 'language' | 'signal'> {
  checkpointDir: string;
  language?: string;
  heldText?: string;
  compress?: boolean;
  json?: boolean;
}

/** Writes a release package of a model. */
export async function runExport(source: string, target: string, flags: ExportFlags): Promise<void> {
  const { checkpointDir, compress, json, heldText: heldFile, ...options } = flags;
  if (compress === true && !/\.(pt|pth)$/.test(target)) {
    throw usageError(`--compress writes one file: expected a target that ends in .pt, got ${target}.`);
  }
  const found = await findModel(source, { checkpointDir });
  if (compress === true) return writeCompressed(found, target, flags);
  const heldText = heldFile === undefined ? undefined : await readFile(heldFile, 'utf8');
  const model = await GPT.load(found, { device: 'cpu' });
  try {
    const result = await model.export(target, { ...options, ...(heldText !== undefined && { heldText }) });
    print(json, result, () => describe(result));
  } finally {
    model.dispose();
  }
}

/** The program's own form in half precision, without the optimizer. */
async function writeCompressed(source: string, target: string, flags: ExportFlags): Promise<void> {
  if (await stat(target).catch(() => undefined))
    throw usageError(`${target} already exists. Remove it, or write another file.`);
  const model = await GPT.load(source, { device: 'cpu' });
  try {
    await model.save(target, { dtype: 'float16', optimizer: null });
  } finally {
    model.dispose();
  }
  const [before, after] = await Promise.all([source, target].map(async (file) => (await stat(file)).size));
  const { isDirectory } = await stat(source).then((info) => ({ isDirectory: info.isDirectory() }));
  const share = isDirectory ? '' : `, ${percent(after!, before!)} of the checkpoint's ${formatBytes(before!)}`;
  print(
    flags.json,
    { path: target, size: after, checkpointSize: isDirectory ? null : before },
    `${target}: ${formatBytes(after!)}${share}`,
  );
}

function describe({ path, dtype, form, size, checkpointSize, files, perplexity }: ExportResult): string {
  const share =
    checkpointSize === null || checkpointSize === 0
      ? ''
      : `, ${percent(size, checkpointSize)} of the checkpoint's ${formatBytes(checkpointSize)}`;
  const lines = [
    `${path}: ${form} package, ${dtype}, ${formatBytes(size)}${share}`,
    ...files.map((file) => `  ${file.name}  ${formatBytes(file.size)}`),
  ];
  if (perplexity !== null) {
    lines.push(
      `Perplexity of the held text: ${perplexity.before.toFixed(3)} before, ${perplexity.after.toFixed(3)} after`,
    );
  }
  return lines.join('\n');
}

function percent(part: number, whole: number): string {
  return `${((100 * part) / whole).toFixed(0)} %`;
}
