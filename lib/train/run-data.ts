import {
  type Batch,
  EpochWindows,
  RandomWindows,
  type BatchSource,
  StreamWindows,
  TextStream,
  TokenStream,
} from '../data';
import { batchOf } from '../data/batch';
import type { Tokens } from '../data';
import type { Tokenizer } from '../tokenizers';
import { fromTypedArray, randint } from '../tensor/creation';
import { Generator, readRandomState, writeRandomState } from '../tensor/random';
import { tidy } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import { type DataPosition, fingerprintOf } from './run-state';
import type { DeviceName } from '../tensor/schema-types';

export type DataOrder = 'random' | 'epochs';

interface RunDataOptions {
  batchSize: number;
  blockSize: number;
  seed: number;
  device: DeviceName;
  vocabSize: number;
}

/** The batches of a run, with a position that can be saved. */
export interface RunData extends BatchSource {
  /** Reads the data for the next batches; false at the end. Only streams need this. */
  fill?(batches: number): Promise<boolean>;
  /** Lets go of what was opened. */
  close?(): void;
  getPosition(): DataPosition;
  setPosition(position: DataPosition): void;
}

/** Batches of the data in an order that begins with the seed. */
export function makeRunData(
  data: TokenStream | TextStream,
  order: DataOrder,
  options: RunDataOptions,
  tokenizer: Tokenizer | null,
): RunData {
  if (data instanceof TextStream) return streamData(data, options, tokenizer!);
  const fingerprint = fingerprintOf(data.train);
  return order === 'random'
    ? randomData(data.train, fingerprint, options)
    : epochData(data.train, fingerprint, options);
}

/** The same batches of all ranks, of which each takes its part. */
export function slicedData(data: RunData, slice: (batch: Batch) => Batch): RunData {
  return { ...data, next: () => slice(data.next()) };
}

/** Whether a position is one of this data, and can be gone to. */
export function isPositionOf(data: RunData, position: DataPosition): boolean {
  const { order, fingerprint } = data.getPosition();
  return fingerprint !== readOnce && position.order === order && position.fingerprint === fingerprint;
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
      if (position.order === 'epochs') windows.setState({ epoch: position.epoch, batch: position.batch });
    },
  };
}

/** Stands for the fingerprint of a stream that cannot be opened again. */
const readOnce = 'once';

function streamData(stream: TextStream, options: RunDataOptions, tokenizer: Tokenizer): RunData {
  const { batchSize, blockSize, seed } = options;
  const windows = new StreamWindows(stream, tokenizer, { blockSize, seed });
  const shuffled = stream.options.shuffleBuffer ?? 0;
  const fingerprint = stream.canReopen ? `windows-of-${blockSize}-by-${shuffled}` : readOnce;
  return {
    fill: (batches) => windows.fill(batches * batchSize),
    next: () => batchOf(windows.take(batchSize), options),
    close: () => windows.close(),
    getPosition: () => ({ order: 'stream', fingerprint, ...windows.getState() }),
    setPosition: (position) => {
      if (position.order === 'stream') windows.setState(position);
    },
  };
}

/** A seed from the default generator. */
export function drawSeed(): number {
  return tidy(() => Number(randint(2 ** 31, [1]).item()));
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
