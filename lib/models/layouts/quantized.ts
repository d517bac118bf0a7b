import type { Quantization } from '../../nn/quantized-linear';
import type { Family, StateView } from './family';
import type { CheckpointLayout } from './layout';
import { plainAsks, plainFacts, plainLayout, plainModules } from './plain';

/**
 * State dicts of models with weights of 8 or 4 bits. The keys are the names of the parameters here, whatever family the model
 * came from; `QuantizedLinear` says what the tensors of a layer are.
 */

const name = 'quantized';
const description = 'weights of 8 or 4 bits with scales, saved by torchbind';

const unrounded: CheckpointLayout = { ...plainLayout, name, description };

/** The layout of a model whose Linears are quantized, as `without` is that of the model before. */
export function quantizedLayout(spec: Quantization): CheckpointLayout {
  return {
    ...unrounded,
    quantized: { spec, without: unrounded },
    modules: (config) => [...plainModules(config, true)],
  };
}

export const quantized: Family = {
  name,
  description,
  layout: unrounded,
  conform: () => ({}),
  recognise(state) {
    const nLayer = state.count((i) => `blocks.${i}.attn.proj.scales`);
    if (nLayer === 0 || !state.has('lmHead.scales')) return undefined;
    const spec = specOf(state);
    return {
      layout: unrounded,
      facts: { ...plainFacts(state, nLayer), tieWeights: false },
      saw: [spec === undefined ? 'quantized weights' : `weights of ${spec.bits} bits`],
      asks: plainAsks(state),
      ...(spec === undefined ? {} : { quantized: spec }),
    };
  },
};

/** What dtype and shapes say; undefined where only keys are known. */
function specOf(state: StateView): Quantization | undefined {
  const weight = state.tensor('blocks.0.attn.proj.weight');
  const [groups] = state.shape('blocks.0.attn.proj.scales') ?? [];
  if (weight === undefined || groups === undefined) return undefined;
  if (weight.dtype === 'int8') return { bits: 8, groupSize: null };
  return { bits: 4, groupSize: (2 * (weight.shape[1] ?? 0)) / groups };
}
