import { type CheckpointEntry, findCheckpoints } from '../checkpoint';
import { CheckpointManager } from '../gpt';
import { modelNames } from './models';
import { formatBytes, formatTime, note, print, table } from './output';

export interface ListFlags {
  checkpointDir: string;
  modelName?: string;
  source?: string;
  step?: number;
  json?: boolean;
}

/** A checkpoint in the list. */
interface Listed {
  model: string;
  kind: CheckpointEntry['kind'] | 'file';
  /** Of a single file: the data that it was trained on. */
  source: string | null;
  step: number | null;
  size: number;
  modified: Date;
  metrics: CheckpointEntry['metrics'];
  path: string;
}

/** Lists what fits the flags, the newest first. */
export async function runList(flags: ListFlags): Promise<void> {
  const { checkpointDir, json } = flags;
  const fits = ({ model, source, step }: Listed): boolean =>
    contains(model, flags.modelName) &&
    contains(source ?? '', flags.source) &&
    (flags.step === undefined || flags.step === step);
  const found = [...(await ofModels(checkpointDir)), ...(await ofFiles(checkpointDir))].filter(fits);
  found.sort((a, b) => b.modified.getTime() - a.modified.getTime());
  if (found.length === 0) note(`No checkpoints${isFiltered(flags) ? ' that fit' : ''} in ${checkpointDir}.`);
  print(json, found, () => (found.length === 0 ? '' : asTable(found)));
}

function isFiltered({ modelName, source, step }: ListFlags): boolean {
  return modelName !== undefined || source !== undefined || step !== undefined;
}

function contains(text: string, part: string | undefined): boolean {
  return part === undefined || text.toLowerCase().includes(part.toLowerCase());
}

async function ofModels(root: string): Promise<Listed[]> {
  const listed: Listed[] = [];
  for (const model of await modelNames(root)) {
    const entries = await new CheckpointManager(model, { root }).list();
    for (const entry of entries) listed.push({ model, source: null, ...entry });
  }
  return listed;
}

async function ofFiles(root: string): Promise<Listed[]> {
  return (await findCheckpoints(root)).map(({ saved, ...file }) => {
    return { ...file, kind: 'file' as const, modified: saved, metrics: {} };
  });
}

function asTable(found: readonly Listed[]): string {
  const titles = ['model', 'kind', 'source', 'step', 'size', 'saved', 'validation loss', 'path'];
  const rows = found.map(({ model, kind, source, step, size, modified, metrics, path }) => [
    model,
    kind,
    source ?? '',
    step === null ? '' : String(step),
    formatBytes(size),
    formatTime(modified),
    metrics.val_loss === undefined ? '' : metrics.val_loss.toFixed(4),
    path,
  ]);
  const used = titles.map((_, column) => rows.some((row) => row[column] !== ''));
  const shown = (row: readonly string[]): string[] => row.filter((_, column) => used[column]);
  return table(shown(titles), rows.map(shown));
}
