import { CheckpointCode, CheckpointError } from '../../errors';
import type { ByteSource } from '../files/byte-source';
import { headSize, isSafetensors, kindOf } from '../files/kinds';
import { isZip } from '../zip/format';
import type { ZipReader } from '../zip/reader';
import { incomplete, isOfDistributed } from '../dcp/place';
import { legacyMagic } from './legacy-archive';
import { readPlain } from './pickles';

export type Container = 'zip' | 'legacy' | 'tar';

/** The start of a file, as far as it tells its kind. */
export function headOf(source: ByteSource): Promise<Buffer> {
  return source.read(0, Math.min(headSize, source.size));
}

/**
 * Which container of checkpoints a file is, by its content.
 *
 * @throws CheckpointError that says what the file is, if it is not one of them
 */
export async function containerOf(source: ByteSource): Promise<Container> {
  const head = await headOf(source);
  if (isOfDistributed(source.path, head)) throw incomplete(source.path);
  if (isZip(head)) return 'zip';
  if (head.toString('latin1', 257, 262) === 'ustar') return 'tar';
  if (beginsWithMagic(head)) return 'legacy';
  throw notTorchSave(kindOf(head, source.size) ?? 'a file of a kind that torchbind does not know', 0);
}

/** Whether the first pickle, of whatever protocol, is the number that the format before PyTorch 1.6 begins with. */
function beginsWithMagic(head: Buffer): boolean {
  try {
    return readPlain(head, 'magic number') === legacyMagic;
  } catch (error) {
    if (error instanceof CheckpointError) return false;
    throw error;
  }
}

/** What a zip is that holds a program; undefined if it does not. */
export function programIn(zip: ZipReader): string | undefined {
  const names = [...zip.records.keys()];
  const has = (test: (name: string) => boolean): boolean => names.some(test);
  if (zip.records.has('bytecode.pkl')) return 'an archive for the mobile interpreter (.ptl), which holds a program';
  if (has((name) => name.startsWith('code/')) || zip.records.has('constants.pkl'))
    return 'a TorchScript archive, which holds a program; save model.state_dict() in Python';
  if (has((name) => /^(archive_format$|models\/|serialized_exported_program\.json$)/.test(name)))
    return 'an archive of torch.export (.pt2), which holds a program; save the state_dict in Python';
  if (has((name) => /^\.data\/(extern_modules|python_version)$/.test(name)))
    return 'a torch.package archive, which holds a program';
  return undefined;
}

/** @throws CheckpointError that says what the zip is, if torch.save did not write it */
export function checkHoldsTensors(zip: ZipReader): void {
  const what = programIn(zip) ?? (zip.records.has('data.pkl') ? undefined : "a zip without a record 'data.pkl'");
  if (what !== undefined) throw notTorchSave(what);
}

function notTorchSave(what: string, offset?: number): CheckpointError {
  return new CheckpointError(`expected a file that torch.save wrote, got ${what}`, CheckpointCode.format, { offset });
}

/** Whether a file is one that `loadSafetensors` reads, by its content. */
export async function isSafetensorsFile(source: ByteSource): Promise<boolean> {
  return isSafetensors(await headOf(source), source.size);
}
