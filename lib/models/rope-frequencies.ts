import { checkOptions, describe, TorchBindError } from '../errors';
import { arange } from '../tensor/creation';
import { pow } from '../tensor/generated/functions';
import { tidy } from '../tensor/scope';

/** Ways to change RoPE's frequencies for contexts that are longer than those of the first training, as transformers has them. */
export type RopeScaling = Llama3Scaling | YarnScaling | LongRopeScaling;

/** Llama 3.1: low frequencies are divided by `factor`, high ones stay, and those between are blended. */
export interface Llama3Scaling {
  readonly type: 'llama3';
  readonly factor: number;
  readonly lowFreqFactor: number;
  readonly highFreqFactor: number;
  /** Context of the first training, in tokens. */
  readonly originalBlockSize: number;
}

/** YaRN (Peng et al. 2023): the same by the number of rotations within the first context, and scores grow. */
export interface YarnScaling {
  readonly type: 'yarn';
  readonly factor: number;
  readonly originalBlockSize: number;
  readonly betaFast: number;
  readonly betaSlow: number;
  /** Cosines and sines are multiplied by this. */
  readonly attentionFactor: number;
  /** Round the channels between which frequencies are blended. */
  readonly truncate: boolean;
}

/** LongRoPE (Ding et al. 2024), of Phi-3: a divisor for each frequency, one set for short contexts and one for long ones. */
export interface LongRopeScaling {
  readonly type: 'longrope';
  readonly shortFactor: readonly number[];
  readonly longFactor: readonly number[];
  readonly originalBlockSize: number;
  readonly attentionFactor: number;
}

const FIELDS = {
  llama3: ['factor', 'lowFreqFactor', 'highFreqFactor', 'originalBlockSize'],
  yarn: ['factor', 'originalBlockSize', 'betaFast', 'betaSlow', 'attentionFactor'],
  longrope: ['originalBlockSize', 'attentionFactor'],
} as const;

/** @throws ERR_TORCHBIND_CONFIG for what is not a way to scale RoPE */
export function checkRopeScaling(scaling: RopeScaling | null): void {
  if (scaling === null) return;
  const fail = (what: string, value: unknown, expected: string): never => {
    throw new TorchBindError(
      `GPT config: ${what} must be ${expected}, but is ${describe(value)}.`,
      'ERR_TORCHBIND_CONFIG',
    );
  };
  if (typeof scaling !== 'object' || !Object.hasOwn(FIELDS, scaling.type))
    fail('ropeScaling', scaling, `null, or of type '${Object.keys(FIELDS).join("', '")}'`);
  checkOptions(scaling, ['type', ...FIELDS[scaling.type], 'shortFactor', 'longFactor', 'truncate'], 'ropeScaling');
  for (const name of FIELDS[scaling.type]) {
    const value = (scaling as unknown as Record<string, unknown>)[name];
    if (!(Number.isFinite(value) && (value as number) > 0)) fail(`ropeScaling.${name}`, value, 'a number above 0');
  }
  if (scaling.type !== 'longrope') return;
  for (const name of ['shortFactor', 'longFactor'] as const) {
    const value: unknown = scaling[name];
    const isList = Array.isArray(value) && value.every((factor) => Number.isFinite(factor) && factor > 0);
    if (!isList) fail(`ropeScaling.${name}`, value, 'an array of numbers above 0');
  }
}

/** By how much cosines and sines are multiplied. */
export function ropeMagnitude(scaling: RopeScaling | null): number {
  return scaling === null || scaling.type === 'llama3' ? 1 : scaling.attentionFactor;
}

/** Frequencies by what they follow from: a model asks for the same ones in each forward pass. */
const computed = new WeakMap<RopeScaling, Map<string, readonly number[]>>();

/**
 * Frequencies of RoPE for long contexts, one for each pair of channels, as float32 holds them.
 *
 * @param size channels that are rotated
 * @param length tokens of the context, which tells LongRoPE's two sets apart
 */
export function scaledFrequencies(
  size: number,
  theta: number,
  scaling: RopeScaling,
  length: number,
): readonly number[] {
  const isLong = scaling.type === 'longrope' && length > scaling.originalBlockSize;
  const known = computed.get(scaling) ?? new Map<string, readonly number[]>();
  computed.set(scaling, known);
  const key = `${size} ${theta} ${isLong}`;
  const found = known.get(key) ?? scaled(size, theta, scaling, isLong);
  known.set(key, found);
  return found;
}

function scaled(size: number, theta: number, scaling: RopeScaling, isLong: boolean): number[] {
  const powers = tidy(() => {
    const exponents = arange(0, size, 2).to('float32').div(size); // (size / 2)
    return [...(pow(theta, exponents).toTypedArray() as Float32Array)];
  });
  const plain = powers.map((power) => Math.fround(1 / power));
  switch (scaling.type) {
    case 'llama3':
      return plain.map((frequency) => llama3(frequency, scaling));
    case 'yarn':
      return yarn(plain, size, theta, scaling);
    case 'longrope': {
      const factors = isLong ? scaling.longFactor : scaling.shortFactor;
      return powers.map((power, i) => Math.fround(1 / Math.fround(Math.fround(factors[i] ?? 1) * power)));
    }
  }
}

function llama3(frequency: number, scaling: Llama3Scaling): number {
  const { factor, lowFreqFactor: low, highFreqFactor: high, originalBlockSize } = scaling;
  const turns = (originalBlockSize * frequency) / (2 * Math.PI); // within the first context
  if (turns < low) return frequency / factor;
  if (turns > high) return frequency;
  const smooth = (turns - low) / (high - low);
  return ((1 - smooth) * frequency) / factor + smooth * frequency;
}

function yarn(plain: readonly number[], size: number, theta: number, scaling: YarnScaling): number[] {
  const { factor, originalBlockSize, betaFast, betaSlow, truncate } = scaling;
  // The pair of channels that rotates so often within the first context.
  const pairOf = (turns: number): number =>
    (size * Math.log(originalBlockSize / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const [first, last] = [pairOf(betaFast), pairOf(betaSlow)];
  const low = Math.max(truncate ? Math.floor(first) : first, 0);
  const high = Math.min(truncate ? Math.ceil(last) : last, size - 1);
  const width = high === low ? 0.001 : high - low;
  return plain.map((frequency, i) => {
    const ramp = Math.min(Math.max((i - low) / width, 0), 1);
    return (frequency / factor) * ramp + frequency * (1 - ramp);
  });
}
