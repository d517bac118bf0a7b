import { withoutUndefined } from '../../objects';
import type { Quantization } from '../../nn/quantized-linear';
import type { GPTConfig } from '../config';
import { shapeFacts, type Family, type StateView } from './family';
import { empty, weighted } from './layout';
import type { CheckpointLayout, LayoutModule } from './layout';

/**
 * State dicts of models with weights of 8 or 4 bits. The keys are the names of the parameters here, whatever family the model
 * came from; `QuantizedLinear` says what the tensors of a layer are.
 */

const name = 'quantized';
const description = 'weights of 8 or 4 bits with scales, saved by torchbind';

const plain: CheckpointLayout = {
  name,
  description,
  facts: () => ({}),
  initialisation: 'pytorch',
  modules: (config) => [...modules(config, false)],
};

/** The layout of a model whose Linears are quantized, as `without` is that of the model before. */
export function quantizedLayout(spec: Quantization): CheckpointLayout {
  return { ...plain, quantized: { spec, without: plain }, modules: (config) => [...modules(config, true)] };
}

export const quantized: Family = {
  name,
  description,
  layout: plain,
  conform: () => ({}),
  recognise(state) {
    const nLayer = state.count((i) => `blocks.${i}.attn.qkv.scales`);
    if (nLayer === 0 || !state.has('lmHead.scales')) return undefined;
    const facts = factsOf(state, nLayer);
    const spec = specOf(state);
    const rope = facts.positionEncoding === 'rope';
    return {
      layout: plain,
      facts,
      saw: [spec === undefined ? 'quantized weights' : `weights of ${spec.bits} bits`],
      asks: [
        'nHead',
        ...(rope ? (['blockSize'] as const) : []),
        ...(facts.activation ? [] : (['activation'] as const)),
      ],
      ...(spec === undefined ? {} : { quantized: spec }),
    };
  },
};

/** What dtype and shapes say; undefined where only keys are known. */
function specOf(state: StateView): Quantization | undefined {
  const weight = state.tensor('blocks.0.attn.qkv.weight');
  const [groups] = state.shape('blocks.0.attn.qkv.scales') ?? [];
  if (weight === undefined || groups === undefined) return undefined;
  if (weight.dtype === 'int8') return { bits: 8, groupSize: null };
  return { bits: 4, groupSize: (2 * (weight.shape[1] ?? 0)) / groups };
}

function factsOf(state: StateView, nLayer: number): Partial<GPTConfig> {
  const swiglu = state.has('blocks.0.mlp.gate.weight');
  const rmsnorm = !state.has('blocks.0.ln1.bias');
  const token = 'tokenEmbedding.weight';
  const position = 'positionEmbedding.weight';
  return withoutUndefined<Partial<GPTConfig>>({
    ...shapeFacts(state, { token, position, up: 'blocks.0.mlp.up.weight' }),
    nLayer,
    activation: swiglu ? 'swiglu' : undefined,
    normType: rmsnorm ? 'rmsnorm' : 'layernorm',
    normBias: !rmsnorm,
    positionEncoding: state.has(position) ? 'learned' : 'rope',
    bias: state.has('blocks.0.attn.qkv.bias'),
    projBias: state.has('blocks.0.attn.proj.bias'),
    mlpBias: state.has('blocks.0.mlp.up.bias'),
    lmHeadBias: state.has('lmHead.bias'),
    tieWeights: false,
  });
}

function* modules(config: GPTConfig, isQuantized: boolean): Generator<LayoutModule> {
  const linear = (path: string, bias: boolean): LayoutModule => {
    const module = weighted(path, path, bias);
    if (isQuantized) module.tensors.splice(1, 0, { name: 'scales', parameter: `${path}.scales` });
    return module;
  };
  yield empty('');
  yield weighted('tokenEmbedding', 'tokenEmbedding', false);
  if (config.positionEncoding === 'learned') yield weighted('positionEmbedding', 'positionEmbedding', false);
  for (let i = 0; i < config.nLayer; i++) {
    yield weighted(`blocks.${i}.ln1`, `blocks.${i}.ln1`, config.normBias);
    yield linear(`blocks.${i}.attn.qkv`, config.bias);
    yield linear(`blocks.${i}.attn.proj`, config.projBias);
    yield weighted(`blocks.${i}.ln2`, `blocks.${i}.ln2`, config.normBias);
    if (config.activation === 'swiglu') yield linear(`blocks.${i}.mlp.gate`, config.mlpBias);
    yield linear(`blocks.${i}.mlp.up`, config.mlpBias);
    yield linear(`blocks.${i}.mlp.down`, config.mlpBias);
  }
  yield weighted('lnF', 'lnF', config.normBias);
  yield linear('lmHead', config.lmHeadBias);
}
