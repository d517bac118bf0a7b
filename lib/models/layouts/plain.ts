import { withoutUndefined } from '../../objects';
import type { GPTConfig } from '../config';
import { shapeFacts, type Family, type StateView } from './family';
import { empty, headModule, weighted } from './layout';
import type { CheckpointLayout, LayoutModule } from './layout';

/**
 * State dicts whose keys are the names of the parameters here, whatever family the model came from: what a release package holds.
 * Nothing is cut, joined or transposed, so that its tensors become the model's as they lie in the file.
 */

const name = 'torchbind';
const description = 'parameters under the names that they have in torchbind, in release packages';

export const plainLayout: CheckpointLayout = {
  name,
  description,
  facts: () => ({}),
  initialisation: 'pytorch',
  modules: (config) => [...plainModules(config, false)],
};

export const plain: Family = {
  name,
  description,
  layout: plainLayout,
  conform: () => ({}),
  recognise(state) {
    const nLayer = state.count((i) => `blocks.${i}.attn.qkv.weight`);
    if (nLayer === 0 || !state.has('tokenEmbedding.weight') || state.has('blocks.0.attn.qkv.scales')) return undefined;
    const tieWeights = !state.has('lmHead.weight');
    return {
      layout: plainLayout,
      facts: { ...plainFacts(state, nLayer), tieWeights },
      saw: ['parameters under the names of torchbind'],
      asks: plainAsks(state),
    };
  },
};

/** What neither keys nor shapes tell. */
export function plainAsks(state: StateView): (keyof GPTConfig)[] {
  return [
    'nHead',
    ...(state.has(position) ? [] : (['blockSize'] as const)),
    ...(state.has('blocks.0.mlp.gate.weight') ? [] : (['activation'] as const)),
  ];
}

const position = 'positionEmbedding.weight';

export function plainFacts(state: StateView, nLayer: number): Partial<GPTConfig> {
  const swiglu = state.has('blocks.0.mlp.gate.weight');
  const rmsnorm = !state.has('blocks.0.ln1.bias');
  const token = 'tokenEmbedding.weight';
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
  });
}

/** @param isQuantized whether the Linears have scales */
export function* plainModules(config: GPTConfig, isQuantized: boolean): Generator<LayoutModule> {
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
  yield isQuantized ? linear('lmHead', config.lmHeadBias) : headModule('lmHead', config);
}
