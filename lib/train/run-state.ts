import { createHash } from 'node:crypto';
import { CheckpointCode, CheckpointError, describe } from '../errors';
import type { SavedRun } from '../checkpoint/saved-model';
import type { StreamPosition, Tokens } from '../data';
import type { CpuKernels } from '../native/cpu-kernels';
import { loadedAddon } from '../native/native';

/**
 * Where a run stands, besides weights, optimizer and step: what it takes to go on as if it had never stopped. Held as
 * plain values, so that it costs no tensors between runs.
 */
export interface RunState {
  /** What the run's random numbers began with. */
  seed: number;
  data: DataPosition;
  /** States of the default generators, by device: dropout draws from them. */
  random: Record<string, Uint8Array>;
  /** Step at which the learning rate's schedule began. */
  scheduleStart: number;
  tokensSeen: number;
  /** The lowest validation loss so far. */
  best: { valLoss: number; step: number } | null;
  /** Evaluations since then. */
  evaluationsSinceBest: number;
  /** State of the gradient scaler; null without one. */
  scaler: { scale: number; growthTracker: number } | null;
  /** What the updates were computed with; null on other devices than the CPU, and in bundles that do not say. */
  cpuKernels: CpuKernels | null;
}

/** Which kernels updates on a device are computed with. Where `auto` chooses no others for training, these are the stock ones. */
export function kernelsOn(device: string): CpuKernels | null {
  if (device !== 'cpu') return null;
  return loadedAddon().kernels.fastMkl ? 'auto' : 'stock';
}

export type DataPosition =
  | { order: 'random'; fingerprint: string; generator: Uint8Array }
  | { order: 'epochs'; fingerprint: string; epoch: number; batch: number }
  | ({ order: 'stream'; fingerprint: string } & StreamPosition);

const format = 1;
/** Key of the state of the generator that the places of windows are drawn from; the others are names of devices. */
const dataGenerator = 'data';

/** Tells one text from another without reading all of a large one: its length, and the SHA-256 of three pieces. */
export function fingerprintOf(tokens: Tokens): string {
  const piece = 16_384;
  const hash = createHash('sha256').update(`${tokens.length}`);
  for (const start of [0, Math.max(0, tokens.length - piece) >> 1, Math.max(0, tokens.length - piece)]) {
    hash.update(Int32Array.from(tokens.subarray(start, start + piece)));
  }
  return `${tokens.length}-${hash.digest('hex').slice(0, 16)}`;
}

export function saveRun(state: RunState): SavedRun {
  const { data, best, scaler } = state;
  const { generator: _, ...position } = { generator: undefined, ...data };
  const random = new Map(Object.entries(state.random));
  if (data.order === 'random') random.set(dataGenerator, data.generator);
  return {
    json: {
      format,
      seed: state.seed,
      data: position,
      schedule_start: state.scheduleStart,
      tokens_seen: state.tokensSeen,
      best: best === null ? null : { val_loss: best.valLoss, step: best.step },
      evaluations_since_best: state.evaluationsSinceBest,
      scaler: scaler === null ? null : { scale: scaler.scale, growth_tracker: scaler.growthTracker },
      cpu_kernels: state.cpuKernels,
    },
    random,
  };
}

/** @throws CheckpointError ERR_TORCHBIND_CHECKPOINT_FORMAT naming the field that is not right */
export function readRun({ json, random }: SavedRun): RunState {
  if (json.format !== format) throw wrong('format', json.format, `${format}, which this version of torchbind reads`);
  const devices = [...random].filter(([name]) => name !== dataGenerator);
  return {
    seed: number(json, 'seed'),
    data: positionOf(object(json, 'data'), random.get(dataGenerator)),
    random: Object.fromEntries(devices),
    scheduleStart: count(json, 'schedule_start'),
    tokensSeen: count(json, 'tokens_seen'),
    best: json.best === null ? null : bestOf(object(json, 'best')),
    evaluationsSinceBest: count(json, 'evaluations_since_best'),
    scaler: json.scaler === null ? null : scalerOf(object(json, 'scaler')),
    cpuKernels: kernelsOf(json.cpu_kernels ?? null),
  };
}

function kernelsOf(value: unknown): CpuKernels | null {
  if (value === null || value === 'auto' || value === 'stock') return value;
  throw wrong('cpu_kernels', value, "'auto' or 'stock'");
}

function positionOf(data: Record<string, unknown>, generator: Uint8Array | undefined): DataPosition {
  const { order, fingerprint } = data;
  if (typeof fingerprint !== 'string') throw wrong('data.fingerprint', fingerprint, 'a string');
  if (order === 'epochs') return { order, fingerprint, epoch: count(data, 'epoch'), batch: count(data, 'batch') };
  if (order === 'stream') {
    const [epoch, piece, offset] = [count(data, 'epoch'), count(data, 'piece'), count(data, 'offset')];
    return { order, fingerprint, epoch, piece, offset, block: count(data, 'block'), given: count(data, 'given') };
  }
  if (order !== 'random') throw wrong('data.order', order, "'random', 'epochs' or 'stream'");
  if (generator === undefined) throw wrong('data', 'no generator', "the generator's state next to it");
  return { order, fingerprint, generator };
}

function bestOf(best: Record<string, unknown>): RunState['best'] {
  return { valLoss: number(best, 'val_loss'), step: count(best, 'step') };
}

function scalerOf(scaler: Record<string, unknown>): RunState['scaler'] {
  return { scale: number(scaler, 'scale'), growthTracker: count(scaler, 'growth_tracker') };
}

function object(json: Record<string, unknown>, name: string): Record<string, unknown> {
  const value = json[name];
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw wrong(name, value, 'an object');
}

function number(json: Record<string, unknown>, name: string): number {
  const value = json[name];
  if (typeof value === 'number') return value;
  throw wrong(name, value, 'a number');
}

function count(json: Record<string, unknown>, name: string): number {
  const value = json[name];
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
  throw wrong(name, value, 'an integer of at least 0');
}

function wrong(field: string, value: unknown, expected: string): CheckpointError {
  return new CheckpointError(
    `The saved state of the training run is not right: ${field} must be ${expected}, got ${describe(value)}.`,
    CheckpointCode.format,
  );
}
