import { describe, TorchBindError } from '../errors';
import { noGrad } from '../tensor/autograd';
import { type DType, itemSize } from '../tensor/dtype';
import { tidy } from '../tensor/scope';
import { Tensor } from '../tensor/tensor';

/** A tensor under its key in a state dict. */
export interface StateEntry {
  key: string;
  /** Shares memory with the module: loading copies into it. */
  tensor: Tensor;
  /** The tensor follows from the module's shape, as an attention mask does: what is loaded must equal it. */
  constant?: boolean;
  /** The tensor is a part of a larger one: state dicts get a copy, so that files hold it as a tensor of its own. */
  part?: boolean;
  /** Key of the entry that is the same tensor (tied weights): what is loaded under both must be equal. */
  aliasOf?: string | undefined;
}

/** Keys in which a state dict and a module differ. */
export interface IncompatibleKeys {
  /** Keys that the module has and the state dict lacks. */
  missingKeys: string[];
  /** Keys that the state dict has and the module lacks. */
  unexpectedKeys: string[];
}

/**
 * Copies a state dict into a module's tensors.
 *
 * @throws ERR_TORCHBIND_STATE_DICT, before anything is copied, in the words of PyTorch's `load_state_dict`
 */
export function loadEntries(
  moduleName: string,
  entries: StateEntry[],
  state: ReadonlyMap<string, unknown>,
  strict: boolean,
): IncompatibleKeys {
  const expected = new Set(entries.map(({ key }) => key));
  const missingKeys = [...expected].filter((key) => !state.has(key));
  const unexpectedKeys = [...state.keys()].filter((key) => !expected.has(key));
  const present = entries.filter(({ key }) => state.has(key));
  const problems = present.flatMap((entry) => problemWith(entry, state) ?? []);
  if (strict) {
    if (unexpectedKeys.length > 0) problems.unshift(`Unexpected key(s) in state_dict: ${quote(unexpectedKeys)}.`);
    if (missingKeys.length > 0) problems.unshift(`Missing key(s) in state_dict: ${quote(missingKeys)}.`);
  }
  if (problems.length > 0) {
    throw new TorchBindError(
      `Error(s) in loading state_dict for ${moduleName}:\n\t${problems.join('\n\t')}`,
      'ERR_TORCHBIND_STATE_DICT',
    );
  }
  noGrad(() => {
    for (const { key, tensor, constant } of present) {
      if (constant !== true) tensor.copy_(alignScalar(state.get(key) as Tensor, tensor));
    }
  });
  return { missingKeys, unexpectedKeys };
}

function problemWith(
  { key, tensor, constant, aliasOf }: StateEntry,
  state: ReadonlyMap<string, unknown>,
): string | undefined {
  const value = state.get(key);
  if (!(value instanceof Tensor)) {
    return `While copying the parameter named "${key}", expected a Tensor from checkpoint, got ${describe(value)}.`;
  }
  const source = alignScalar(value, tensor);
  if (!sameShape(source.shape, tensor.shape)) {
    return (
      `size mismatch for ${key}: copying a param with shape ${size(value.shape)} from checkpoint, ` +
      `the shape in current model is ${size(tensor.shape)}.`
    );
  }
  if (constant === true && !source.to({ dtype: tensor.dtype, device: tensor.device }).equal(tensor)) {
    return `The values of "${key}" are not those that this model computes with, so its results would differ.`;
  }
  const twin = aliasOf === undefined ? undefined : state.get(aliasOf);
  if (twin instanceof Tensor && sameShape(twin.shape, value.shape) && !sameBits(value, twin)) {
    return `The values of "${key}" and "${aliasOf}" differ, but in this model they are one parameter.`;
  }
  return undefined;
}

/** Files of torch 0.3 hold scalars with shape (1). */
function alignScalar(source: Tensor, target: Tensor): Tensor {
  return target.ndim === 0 && source.ndim === 1 && source.shape[0] === 1 ? source.detach().select(0, 0) : source;
}

/** Whether two shapes are equal. */
export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

/** Integers as wide as floating-point numbers, by bytes. */
const integers: Readonly<Record<number, DType>> = { 1: 'uint8', 2: 'int16', 4: 'int32', 8: 'int64' };

/** Whether two tensors hold equal numbers, or the same bits: NaN, which equals nothing, is the same as itself. */
export function sameBits(a: Tensor, b: Tensor): boolean {
  if (a.dtype !== b.dtype || !sameShape(a.shape, b.shape)) return false;
  if (a.equal(b)) return true;
  const bits = a.dtype.startsWith('float') || a.dtype === 'bfloat16' ? integers[itemSize(a.dtype)] : undefined;
  return bits !== undefined && tidy(() => noGrad(() => a.detach().view(bits).equal(b.detach().view(bits))));
}

/** A shape as PyTorch prints it. */
export function size(shape: readonly number[]): string {
  return `torch.Size([${shape.join(', ')}])`;
}

function quote(keys: string[]): string {
  return keys.map((key) => `"${key}"`).join(', ');
}
