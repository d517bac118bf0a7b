import { mkdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { type ConvertLegacyOptions, convertAllLegacy, convertLegacy, GPT, type LegacyConversion } from '../gpt';
import { usageError } from './errors';
import { findModel } from './models';
import { note, print } from './output';

export interface ConvertFlags {
  checkpointDir: string;
  modelName?: string;
  checkpoint?: string;
  all?: boolean;
  dryRun?: boolean;
  overwrite?: boolean;
  layout?: string;
  dtype?: 'float32' | 'float16' | 'bfloat16' | 'q8_0';
  force?: boolean;
  allowMixed?: boolean;
  json?: boolean;
}

/** Writes a model, or all of a directory, in another form. */
export async function runConvert(
  source: string | undefined,
  target: string | undefined,
  flags: ConvertFlags,
): Promise<void> {
  const { modelName, all, checkpoint, checkpointDir: root } = flags;
  if ([source, modelName, all].filter((value) => value !== undefined).length !== 1) {
    throw usageError('Say what to convert: a path or name, or --model-name NAME, or --all.');
  }
  if (target !== undefined)
    return convertTo(await findModel(source ?? modelName, { checkpointDir: root }), target, flags);
  if (flags.layout !== undefined || flags.dtype !== undefined) {
    throw usageError('--layout and --dtype need a target: torchbind convert SOURCE TARGET --layout hf-gpt2.');
  }
  const options: ConvertLegacyOptions = { overwrite: flags.overwrite ?? false, dryRun: flags.dryRun ?? false };
  if (all === true)
    return showAll(await convertAllLegacy(root, { ...options, ...(checkpoint && { checkpoint }) }), flags);
  const file = await singleFile(await findModel(source ?? modelName, { checkpointDir: root }), checkpoint);
  const done = await convertLegacy(file, options);
  print(flags.json, done, () => describe(done));
}

/** The file to convert, of a model's directory or given itself. */
async function singleFile(found: string, checkpoint: string | undefined): Promise<string> {
  const info = await stat(found).catch(() => undefined);
  if (info?.isDirectory() !== true) return found;
  for (const name of checkpoint === undefined ? ['latest.pt', 'final.pt'] : [checkpoint]) {
    const file = path.join(found, name);
    if ((await stat(file).catch(() => undefined)) !== undefined) return file;
  }
  throw usageError(`${found} holds no ${checkpoint ?? 'latest.pt or final.pt'} to convert.`);
}

function showAll(conversions: LegacyConversion[], { json, checkpointDir }: ConvertFlags): void {
  if (conversions.length === 0) note(`Found no single-file checkpoints of models in ${checkpointDir}.`);
  print(json, conversions, () => conversions.map(describe).join('\n'));
  if (conversions.some(({ action }) => action === 'fail')) process.exitCode = 1;
}

function describe({ file, directory, action, written, reason, holds }: LegacyConversion): string {
  if (action !== 'convert') return `${file}: ${action === 'skip' ? 'left alone' : 'failed'}, ${reason}`;
  const what = holds === null ? '' : ` (${holds.layout}, step ${holds.step ?? 'not known'})`;
  return `${file}: ${written ? 'converted' : 'would be converted'} to a bundle in ${directory}${what}`;
}

async function convertTo(source: string, target: string, flags: ConvertFlags): Promise<void> {
  const { layout, dtype, force = false, allowMixed = false, dryRun, overwrite, json } = flags;
  if (dryRun === true) throw usageError('--dry-run is for single-file checkpoints that become bundles.');
  if (overwrite !== true && (await stat(target).catch(() => undefined)) !== undefined) {
    throw usageError(`${target} already exists. To replace it, pass --overwrite.`);
  }
  await mkdir(path.dirname(target), { recursive: true });
  const model = await GPT.load(source, { device: 'cpu', optimizer: true, allowMixed });
  try {
    await model.save(target, { force, ...(layout && { layout }), ...(dtype && { dtype }) });
    const done = { source, target, layout: target.endsWith('.gguf') ? 'gguf' : (layout ?? model.layout.name) };
    print(json, done, `${source}: written to ${target} as ${done.layout}`);
  } finally {
    model.dispose();
  }
}
