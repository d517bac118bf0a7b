import { EpochWindows, RandomWindows, type BatchSource, type Tokens } from '../data';
import { fromTypedArray } from '../tensor/creation';
import { Generator, readRandomState, writeRandomState } from '../tensor/random';
import type { Tensor } from '../tensor/tensor';
import { type DataPosition, fingerprintOf } from './run-state';

export type DataOrder = 'random' | 'epochs';

interface RunDataOptions {
  batchSize: number;
  blockSize: number;
  seed: number;
  device: string;
}

/** The batches of a run, with a position that can be saved. */
export interface RunData extends BatchSource {
  getPosition(): DataPosition;
  setPosition(position: DataPosition): void;
}

/** Batches of the tokens in an order that begins with the seed. */
export function makeRunData(tokens: Tokens, order: DataOrder, options: RunDataOptions): RunData {
  const fingerprint = fingerprintOf(tokens);
  return order === 'random' ? randomData(tokens, fingerprint, options) : epochData(tokens, fingerprint, options);
}

/** Whether a position is one of this data. */
export function isPositionOf(data: RunData, position: DataPosition): boolean {
  const { order, fingerprint } = data.getPosition();
  return position.order === order && position.fingerprint === fingerprint;
}

function randomData(tokens: Tokens, fingerprint: string, options: RunDataOptions): RunData {
  const { seed, ...windowOptions } = options;
  const generator = new Generator().manualSeed(seed);
  const windows = new RandomWindows(tokens, { ...windowOptions, generator });
  return {
    next: () => windows.next(),
    getPosition: () => ({ order: 'random', fingerprint, generator: takeBytes(windows.getState()) }),
    setPosition: (position) => {
      if (position.order === 'random') withBytes(position.generator, (state) => windows.setState(state));
    },
  };
}

function epochData(tokens: Tokens, fingerprint: string, options: RunDataOptions): RunData {
  const windows = new EpochWindows(tokens, options);
  return {
    next: () => windows.next(),
    getPosition: () => ({ order: 'epochs', fingerprint, ...windows.getState() }),
    setPosition: (position) => {
      if (position.order === 'epochs') windows.setState(position);
    },
  };
}

/** States of the default generators of the CPU and of the model's device. */
export function getRandomStates(device: string): Record<string, Uint8Array> {
  const devices = new Set(['cpu', device]);
  return Object.fromEntries([...devices].map((name) => [name, readRandomState(name)]));
}

/** Restores the states of the generators of the CPU and of the model's device, where they were saved. */
export function setRandomStates(states: Readonly<Record<string, Uint8Array>>, device: string): void {
  for (const name of new Set(['cpu', device])) {
    const bytes = states[name];
    if (bytes !== undefined) writeRandomState(bytes, name);
  }
}

function takeBytes(state: Tensor): Uint8Array {
  const bytes = state.toTypedArray() as Uint8Array;
  state.dispose();
  return bytes;
}

function withBytes(bytes: Uint8Array, use: (state: Tensor) => void): void {
  const state = fromTypedArray(bytes, [bytes.length]);
  try {
    use(state);
  } finally {
    state.dispose();
  }
}
