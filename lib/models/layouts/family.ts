import { withoutUndefined } from '../../objects';
import { TorchBindError } from '../../errors';
import { native } from '../../native/native';
import { sameBits } from '../../nn/state-dict';
import { Tensor } from '../../tensor/tensor';
import type { GPTConfig } from '../config';
import type { Quantization } from '../../nn/quantized-linear';
import type { CheckpointLayout, LayoutBuffer } from './layout';
import type { LoraState } from './lora';
import { TensorFacts } from './tensor-facts';

type StateTensor = Tensor | TensorFacts;

function isStateTensor(value: unknown): value is StateTensor {
  return value instanceof Tensor || value instanceof TensorFacts;
}

/** What a state dict tells by its keys, and where it is one with tensors or facts about them, by their shapes. */
export class StateView {
  private readonly shapes: ReadonlyMap<string, StateTensor | undefined>;

  /** @param program the family whose program saved it, if the file says so */
  constructor(
    state: Iterable<string> | ReadonlyMap<string, unknown>,
    readonly program?: string,
  ) {
    const entries: Iterable<readonly [string, unknown]> =
      state instanceof Map
        ? (state as Map<string, unknown>)
        : Array.from(state as Iterable<string>, (key) => [key, undefined] as const);
    this.shapes = new Map(
      Array.from(entries, ([key, value]) => [String(key), isStateTensor(value) ? value : undefined]),
    );
  }

  get keys(): string[] {
    return [...this.shapes.keys()];
  }

  has(key: string): boolean {
    return this.shapes.has(key);
  }

  /** Shape of a tensor; undefined where the key is not there, or only keys are known. */
  shape(key: string): readonly number[] | undefined {
    return this.shapes.get(key)?.shape;
  }

  tensor(key: string): StateTensor | undefined {
    return this.shapes.get(key);
  }

  /** How many numbers from 0 on give a key that is there. */
  count(keyOf: (i: number) => string): number {
    let n = 0;
    while (this.shapes.has(keyOf(n))) n++;
    return n;
  }

  /** The same under other keys; those that come out as undefined are left out. */
  rename(rename: (key: string) => string | undefined): StateView {
    const renamed = Array.from(this.shapes, ([key, tensor]) => [rename(key), tensor] as const);
    return new StateView(
      new Map(renamed.filter((entry): entry is [string, StateTensor | undefined] => entry[0] !== undefined)),
      this.program,
    );
  }
}

/** Of a config, what a state dict tells. */
export type ConfigFacts = Partial<GPTConfig>;

/** A state dict that was recognised. */
export interface Recognised {
  layout: CheckpointLayout;
  /** What its keys and shapes say of the config. */
  facts: ConfigFacts;
  /** What was seen, in words, and what it means. */
  saw: string[];
  /** Facts of the architecture that neither keys nor shapes nor the family tell: a config must. */
  asks: (keyof GPTConfig)[];
  /** Of a state dict with LoRA adapters: these. The layout is that of the model without. */
  lora?: LoraState;
  /** Of a state dict with weights of 8 or 4 bits. The layout is that of a model before its weights are rounded. */
  quantized?: Quantization;
}

/** A family of checkpoints. */
export interface Family {
  readonly name: string;
  readonly description: string;
  /** The layout that a model takes which did not come from a file of the family. */
  readonly layout: CheckpointLayout;
  /** The config of a model of this family that is nearest to one: what the family's own program computes. */
  conform(config: GPTConfig): Partial<GPTConfig>;
  /** What a state dict is, if it is of this family. */
  recognise(state: StateView): Recognised | undefined;
}

/** What no family but the later ones departs from. */
export const classic: Partial<GPTConfig> = {
  attentionScale: 'head',
  scaleByLayer: false,
  normPosition: 'pre',
  normType: 'layernorm',
  normEps: 1e-5,
  positionEncoding: 'learned',
};

/** The shape facts that all families read off the same four tensors. */
export function shapeFacts(
  state: StateView,
  keys: { token: string; position?: string; up?: string; upTransposed?: boolean },
): ConfigFacts {
  const [vocabSize, nEmbd] = state.shape(keys.token) ?? [];
  const blockSize = keys.position === undefined ? undefined : state.shape(keys.position)?.[0];
  const up = keys.up === undefined ? undefined : state.shape(keys.up);
  const mlpHidden = up?.[keys.upTransposed === true ? 1 : 0];
  return withoutUndefined({ vocabSize, nEmbd, blockSize, mlpHidden });
}

/** The kind of norms that have a learned scale, or a shift too: only LayerNorm has shifts, and only LayerNorm is there without either. */
export function normKind(hasScale: boolean, hasShift: boolean): ConfigFacts {
  return { normScale: hasScale, normType: hasScale && !hasShift ? 'rmsnorm' : 'layernorm', normBias: hasShift };
}

/** A mask buffer of a state dict; undefined if it has none, or if only keys are known. */
export function maskBuffer(state: StateView, key: string, name: string): LayoutBuffer | undefined {
  if (!state.has(key)) return undefined;
  const tensor = state.tensor(key);
  const isScalar = tensor instanceof Tensor && tensor.ndim < 2;
  const buffer = isScalar ? Number(tensor.item()) : 'causal_mask';
  if (tensor === undefined) return { name, buffer };
  return { name, buffer, shape: tensor.shape, dtype: maskDType(tensor, key) };
}

/** A mask in half precision is one of a model that was cast whole: such weights are float32 here, and so is it, as in Python. */
function maskDType({ dtype }: StateTensor, key: string): NonNullable<LayoutBuffer['dtype']> {
  if (dtype === 'float16' || dtype === 'bfloat16') return 'float32';
  const known = ['float32', 'bool', 'uint8'] as const;
  const found = known.find((name) => name === dtype);
  if (found !== undefined) return found;
  throw new TorchBindError(`The mask "${key}" has dtype ${dtype}, which masks do not have.`, 'ERR_TORCHBIND_LAYOUT');
}

/** Whether two keys of a state dict are one tensor in memory; undefined where only keys are known. */
export function isOneTensor(state: StateView, a: string, b: string): boolean | undefined {
  const [x, y] = [state.tensor(a), state.tensor(b)];
  if (x instanceof TensorFacts && y instanceof TensorFacts)
    return x.identity === null || y.identity === null ? undefined : x.identity === y.identity;
  if (!(x instanceof Tensor) || !(y instanceof Tensor)) return undefined;
  const [first, second] = [x, y].map(({ handle }) => native().storageInfo(handle).id);
  return first === second && x.storageOffset() === y.storageOffset();
}

/** Whether two tensors of a state dict hold the same values; undefined where only keys are known. */
export function sameValues(state: StateView, a: string, b: string): boolean | undefined {
  const [x, y] = [state.tensor(a), state.tensor(b)];
  return x instanceof Tensor && y instanceof Tensor ? sameBits(x, y) : isOneTensor(state, a, b);
}
