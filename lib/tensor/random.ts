import { describe, takes, TorchBindError } from '../errors';
import type { NativeGenerator } from '../native/binding';
import { native } from '../native/native';
import { unwrap, wrap } from './core';
import type { Tensor } from './core';
import { dtypeCode } from './dtype';

/** A seed as PyTorch takes it: any integer of 64 bits, negative ones counted from 2^64 down. */
function checkSeed(seed: number | bigint, where: string): bigint {
  const valid = typeof seed === 'bigint' ? seed >= -(2n ** 63n) && seed < 2n ** 64n : Number.isSafeInteger(seed);
  if (!valid) {
    throw new TorchBindError(
      `${where}: expected an integer seed, got ${describe(seed)}.`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  return BigInt.asUintN(64, BigInt(seed));
}

/** Seeds the default generators of all devices (PyTorch's `torch.manual_seed`): the same numbers as in Python. */
export const manualSeed = takes(1, function manualSeed(seed: number | bigint): void {
  native().manualSeed(checkSeed(seed, 'manualSeed()'));
});

/** State of a device's default generator, a uint8 tensor on the CPU (PyTorch's `torch.get_rng_state`). */
export const getRngState = takes(1, function getRngState(device = 'cpu'): Tensor {
  return wrap(native().getRngState(device));
});

/** Restores what `getRngState` gave, here or in Python (PyTorch's `torch.set_rng_state`). */
export const setRngState = takes(2, function setRngState(state: Tensor, device = 'cpu'): void {
  native().setRngState(unwrap(state, 'setRngState()'), device);
});

/** @internal `getRngState` as plain bytes, which cost no tensor while they are kept. */
export function readRandomState(device: string): Uint8Array {
  const state = getRngState(device);
  const bytes = state.toTypedArray() as Uint8Array;
  state.dispose();
  return bytes;
}

/** @internal `setRngState` from bytes. */
export function writeRandomState(bytes: Uint8Array, device: string): void {
  const state = wrap(native().fromTypedArray(bytes, [bytes.length], dtypeCode.uint8));
  try {
    setRngState(state, device);
  } finally {
    state.dispose();
  }
}

/** A random number generator of its own (PyTorch's `torch.Generator`). */
export class Generator {
  /** @internal */
  readonly native: NativeGenerator;

  constructor(readonly device = 'cpu') {
    this.native = native().newGenerator(device);
  }

  /** Starts the sequence that belongs to `seed`. Returns the generator. */
  manualSeed(seed: number | bigint): this {
    native().generatorSeed(this.native, checkSeed(seed, 'Generator.manualSeed()'));
    return this;
  }

  /** The state, a uint8 tensor on the CPU. */
  getState(): Tensor {
    return wrap(native().generatorGetState(this.native));
  }

  setState(state: Tensor): void {
    native().generatorSetState(this.native, unwrap(state, 'Generator.setState()'));
  }
}
