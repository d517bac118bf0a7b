import { describe, TorchBindError } from '../errors';
import { native } from '../native/native';
import { noGrad } from '../tensor/autograd';
import { type DType, itemSize } from '../tensor/dtype';
import { tidy } from '../tensor/scope';
import { Tensor } from '../tensor/tensor';

/** A tensor under its key in a state dict. */
export interface StateEntry {
  key: string;
  /** Shares memory with the module: loading copies into it. */
  tensor: Tensor;
  /** The parameter or buffer of the module, where the entry is all of it. */
  whole?: Tensor | undefined;
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
  const { present, keys } = matchKeys(entries, state);
  const problems = present.flatMap((entry) => problemOfForm(entry, state) ?? problemOfValues(entry, state) ?? []);
  throwProblems(moduleName, problems, strict ? keys : undefined);
  noGrad(() => {
    for (const { key, tensor, constant } of present) {
      if (constant !== true) tensor.copy_(alignScalar(state.get(key) as Tensor, tensor));
    }
  });
  return keys;
}

/** The entries that a state dict has, and the keys in which it differs from them. */
export function matchKeys(
  entries: readonly StateEntry[],
  state: ReadonlyMap<string, unknown>,
): { present: StateEntry[]; keys: IncompatibleKeys } {
  const expected = new Set(entries.map(({ key }) => key));
  const missingKeys = [...expected].filter((key) => !state.has(key));
  const unexpectedKeys = [...state.keys()].filter((key) => !expected.has(key));
  return { present: entries.filter(({ key }) => state.has(key)), keys: { missingKeys, unexpectedKeys } };
}

/** @throws ERR_TORCHBIND_STATE_DICT if there are problems, or keys that only one side has */
export function throwProblems(
  moduleName: string,
  problems: readonly string[],
  keys: IncompatibleKeys | undefined,
): void {
  const all = [...problems];
  const { missingKeys = [], unexpectedKeys = [] } = keys ?? {};
  if (unexpectedKeys.length > 0) all.unshift(`Unexpected key(s) in state_dict: ${quote(unexpectedKeys)}.`);
  if (missingKeys.length > 0) all.unshift(`Missing key(s) in state_dict: ${quote(missingKeys)}.`);
  if (all.length === 0) return;
  throw new TorchBindError(
    `Error(s) in loading state_dict for ${moduleName}:\n\t${all.join('\n\t')}`,
    'ERR_TORCHBIND_STATE_DICT',
  );
}

/** What is wrong with a value before its elements are looked at. */
export function problemOfForm({ key, tensor }: StateEntry, state: ReadonlyMap<string, unknown>): string | undefined {
  const value = state.get(key);
  if (!(value instanceof Tensor)) {
    return `While copying the parameter named "${key}", expected a Tensor from checkpoint, got ${describe(value)}.`;
  }
  if (sameShape(alignScalar(value, tensor).shape, tensor.shape)) return undefined;
  return (
    `size mismatch for ${key}: copying a param with shape ${size(value.shape)} from checkpoint, ` +
    `the shape in current model is ${size(tensor.shape)}.`
  );
}

function problemOfValues(entry: StateEntry, state: ReadonlyMap<string, unknown>): string | undefined {
  return requiredEqual(entry, state).find(({ pair: [a, b] }) => !sameBits(a, b))?.problem;
}

/** Tensors that must have equal elements, and what is wrong where they have not. */
export function requiredEqual(
  { key, tensor, constant, aliasOf }: StateEntry,
  state: ReadonlyMap<string, unknown>,
): { pair: readonly [Tensor, Tensor]; problem: string }[] {
  const value = state.get(key) as Tensor;
  const twin = aliasOf === undefined ? undefined : state.get(aliasOf);
  const required: { pair: readonly [Tensor, Tensor]; problem: string }[] = [];
  if (constant === true) {
    const converted = alignScalar(value, tensor).to({ dtype: tensor.dtype, device: tensor.device });
    const problem = `The values of "${key}" are not those that this model computes with, so its results would differ.`;
    required.push({ pair: [converted, tensor], problem });
  }
  if (twin instanceof Tensor && sameShape(twin.shape, value.shape) && !isSameMemory(twin, value)) {
    const problem = `The values of "${key}" and "${aliasOf}" differ, but in this model they are one parameter.`;
    required.push({ pair: [value, twin], problem });
  }
  return required;
}

/** Files of torch 0.3 hold scalars with shape (1). */
export function alignScalar(source: Tensor, target: Tensor): Tensor {
  return target.ndim === 0 && source.ndim === 1 && source.shape[0] === 1 ? source.detach().select(0, 0) : source;
}

/** Whether two shapes are equal. */
export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

/** Integers as wide as floating-point numbers, by bytes. */
const integers: Readonly<Record<number, DType>> = { 1: 'uint8', 2: 'int16', 4: 'int32', 8: 'int64' };

/** Whether two tensors are the same elements in memory: they are equal without being read, which for a mapped file takes a while. */
function isSameMemory(a: Tensor, b: Tensor): boolean {
  if (a === b) return true;
  if (a.layout !== 'strided' || b.layout !== 'strided' || a.dtype !== b.dtype) return false;
  if (!a.isContiguous() || !b.isContiguous() || !sameShape(a.shape, b.shape)) return false;
  const [first, second] = [a, b].map(({ handle }) => native().storageInfo(handle).id);
  return first === second && a.storageOffset() === b.storageOffset();
}

/** Whether two tensors hold equal numbers, or the same bits: NaN, which equals nothing, is the same as itself. */
export function sameBits(a: Tensor, b: Tensor): boolean {
  if (a.dtype !== b.dtype || !sameShape(a.shape, b.shape)) return false;
  if (isSameMemory(a, b) || a.equal(b)) return true;
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
