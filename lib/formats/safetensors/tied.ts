import { TorchBindError } from '../../errors';
import { disposePlanned, type PlannedTensor } from './plan';

/** What to do with tensors that share memory, which the format cannot express. */
export type TiedMode = 'refuse' | 'drop' | 'copy';

/**
 * Applies the mode.
 *
 * @returns the tensors to write, and for each dropped name the name whose tensor it is
 * @throws TorchBindError ERR_TORCHBIND_SAVE that names the tensors where writing would lose that they are one
 */
export function resolveTied(
  planned: PlannedTensor[],
  mode: TiedMode,
): { kept: PlannedTensor[]; dropped: Map<string, string> } {
  const dropped = new Map<string, string>();
  if (mode === 'copy') return { kept: planned, dropped };
  const groups = sharingGroups(planned);
  const refused =
    mode === 'refuse' ? groups : groups.filter((group) => group.some(({ span }) => span.view !== group[0]!.span.view));
  if (refused.length > 0) throw sharingError(refused, mode);
  for (const [first, ...others] of groups) for (const { name } of others) dropped.set(name, first!.name);
  disposePlanned(planned.filter(({ name }) => dropped.has(name)));
  return { kept: planned.filter(({ name }) => !dropped.has(name)), dropped };
}

/** Groups of two and more tensors whose bytes overlap, each in the order of the tensors. */
function sharingGroups(planned: readonly PlannedTensor[]): PlannedTensor[][] {
  const order = new Map(planned.map((tensor, index) => [tensor, index]));
  const sorted = planned
    .filter(({ span }) => span.end > span.start)
    .sort((a, b) => a.span.storage - b.span.storage || a.span.start - b.span.start);
  const groups: PlannedTensor[][] = [];
  let end = 0;
  for (const tensor of sorted) {
    const group = groups.at(-1);
    if (group !== undefined && group[0]!.span.storage === tensor.span.storage && tensor.span.start < end) {
      group.push(tensor);
      end = Math.max(end, tensor.span.end);
    } else {
      groups.push([tensor]);
      end = tensor.span.end;
    }
  }
  return groups.filter((group) => group.length > 1).map((group) => group.sort((a, b) => order.get(a)! - order.get(b)!));
}

function sharingError(groups: PlannedTensor[][], mode: TiedMode): TorchBindError {
  const names = groups.map((group) => group.map(({ name }) => JSON.stringify(name)).join(', ')).join('; ');
  const advice =
    mode === 'refuse'
      ? "tied: 'drop' writes one of each group and notes the others in the metadata, tied: 'copy' writes each by itself"
      : "they are different views of one memory, of which none can stand for the others; tied: 'copy' writes each by itself";
  return new TorchBindError(
    `saveSafetensors(): tensors share memory, which safetensors files cannot express: ${names}. ${advice}.`,
    'ERR_TORCHBIND_SAVE',
  );
}
