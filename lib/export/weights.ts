import path from 'node:path';
import { withWeights } from '../checkpoint/programs/program';
import { takeSnapshot, type TensorSnapshot } from '../checkpoint/snapshot';
import type { StorageCopies } from '../compute';
import { TorchBindError } from '../errors';
import { save } from '../formats/pt';
import { saveSafetensors } from '../formats/safetensors';
import type { GPTModel } from '../models/gpt-model';
import type { CheckpointLayout } from '../models/layouts';
import { plainLayout } from '../models/layouts/plain';
import { Linear } from '../nn/linear';
import { checkGroups, type Quantization, roundRows } from '../nn/quantized-linear';
import { noGrad } from '../tensor/autograd';
import { empty } from '../tensor/creation';
import type { DType } from '../tensor/dtype';
import { packTensors } from '../tensor/off-loop';
import { dispose, keep, tidy } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import { turnTimer } from '../workers/slices';
import { floatDType, type Wanted } from './options';

/** A snapshot of a model's weights in the form of a package. */
export interface TakenWeights {
  snapshot: TensorSnapshot;
  /** Keys of the weights of Linears, without `.weight`. */
  linears: readonly string[];
}

/** Takes the weights in the keys of a layout, before it returns. */
export function takeWeights(model: GPTModel, layout: CheckpointLayout, copies: StorageCopies): TakenWeights {
  const own = model.layout;
  try {
    model.setLayout(layout);
    const linears = model.namedModules().flatMap(([name, part]) => (part instanceof Linear ? [name] : []));
    return { snapshot: takeSnapshot(model, undefined, copies), linears };
  } finally {
    model.setLayout(own);
  }
}

/** The layout of a package of torchbind's own form. A quantized model is written as it is. */
export function ownLayout(model: GPTModel): CheckpointLayout {
  return model.quantization === null ? plainLayout : model.layout;
}

/** @throws ERR_TORCHBIND_INVALID_ARGUMENT, ERR_TORCHBIND_CONVERT for a model that is not written as asked, before anything is done */
export function checkExportable(model: GPTModel, { dtype, form, quantization }: Wanted): void {
  if (model.lora !== null) {
    throw new TorchBindError(
      'export: the model has LoRA adapters, and a package holds one set of weights. foldLora(model) puts the adapters into ' +
        'them; saveAdapter(directory) writes the adapters alone.',
      'ERR_TORCHBIND_CONVERT',
    );
  }
  const own = model.quantization;
  if (own !== null && (form === 'huggingface' || (dtype !== undefined && !isSame(own, quantization)))) {
    throw new TorchBindError(
      `export: the model is already quantized to ${own.bits} bits, so its original weights are lost. Export the original ` +
        'model.',
      'ERR_TORCHBIND_CONVERT',
    );
  }
  if (own !== null || quantization === null) return;
  for (const [, part] of model.namedModules())
    if (part instanceof Linear) checkGroups(part.inFeatures, part.outFeatures, quantization.groupSize);
}

function isSame(a: Quantization, b: Quantization | null): boolean {
  return a.bits === b?.bits && a.groupSize === b.groupSize;
}

/** Writes the weights of torchbind's own form. */
export async function writeOwnWeights(
  directory: string,
  { snapshot, linears }: TakenWeights,
  { weights: kind, quantization, dtype, signal }: Wanted,
  came: DType | null,
  isQuantized: boolean,
): Promise<void> {
  const state = snapshot.weights as Map<string, Tensor>;
  const write = async (tensors: Map<string, Tensor>): Promise<void> => {
    if (kind === 'pt') return save(tensors, path.join(directory, 'model.pt'));
    await saveSafetensors(tensors, path.join(directory, 'model.safetensors'), { metadata, tied: 'drop', signal });
  };
  if (isQuantized) return write(state);
  if (quantization === null) return withWeights({ weights: state, dtype: floatDType(dtype, came) }, write);
  const rounded = await roundWeights(state, linears, quantization, signal);
  try {
    await write(rounded);
  } finally {
    dispose([...rounded.values()]);
  }
}

const metadata = { format: 'pt' };

/** Elements that are rounded between two looks at the clock: a millisecond or two. */
const sliceElements = 2 ** 17;

/**
 * The state dict of a model whose Linears are rounded, as `quantize` leaves it; rounded row by row, between which the event loop
 * turns.
 *
 * @returns tensors that the caller must dispose
 */
async function roundWeights(
  state: ReadonlyMap<string, Tensor>,
  linears: readonly string[],
  spec: Quantization,
  signal: AbortSignal | undefined,
): Promise<Map<string, Tensor>> {
  const made = new Map<string, Tensor>();
  const isLinear = new Set(linears.map((name) => `${name}.weight`));
  const others = [...state].filter(([key]) => !isLinear.has(key));
  try {
    const cast = await packTensors(
      others.map(([, tensor]) => tensor),
      'bfloat16',
    );
    const casts = new Map(others.map(([key], i) => [key, cast[i]!]));
    for (const [key, tensor] of state) {
      const other = casts.get(key);
      if (other !== undefined) made.set(key, other);
      else await roundOne(key, tensor, spec, made, signal);
    }
    return made;
  } catch (error) {
    dispose([...made.values()]);
    throw error;
  }
}

async function roundOne(
  key: string,
  weight: Tensor,
  { bits, groupSize }: Quantization,
  made: Map<string, Tensor>,
  signal: AbortSignal | undefined,
): Promise<void> {
  const [rows, columns] = weight.shape as [number, number];
  const [into, scales] = tidy(() => [
    keep(empty([rows, bits === 8 ? columns : columns / 2], { dtype: bits === 8 ? 'int8' : 'uint8' })),
    keep(empty(groupSize === null ? [rows] : [columns / groupSize, rows, 2], { dtype: 'bfloat16' })),
  ]);
  made.set(key, into).set(key.replace(/weight$/, 'scales'), scales);
  const step = Math.max(1, Math.floor(sliceElements / columns));
  const turn = turnTimer();
  for (let first = 0; first < rows; first += step) {
    signal?.throwIfAborted();
    const count = Math.min(step, rows - first);
    noGrad(() =>
      tidy(() => {
        const part = {
          weight: into.narrow(0, first, count),
          scales: scales.narrow(groupSize === null ? 0 : 1, first, count),
        };
        roundRows(weight.narrow(0, first, count), part, groupSize);
      }),
    );
    await turn();
  }
}
