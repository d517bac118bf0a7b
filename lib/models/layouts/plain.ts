import { withoutUndefined } from '../../objects';
import { type GPTConfig, isGated } from '../config';
import { normKind, shapeFacts, type Family, type StateView } from './family';
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
    const nLayer = state.count((i) => `blocks.${i}.attn.proj.weight`);
    if (nLayer === 0 || !state.has('tokenEmbedding.weight') || state.has('blocks.0.attn.proj.scales')) return undefined;
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
  const fusedQkv = state.has('blocks.0.attn.qkv.weight');
  const token = 'tokenEmbedding.weight';
  return withoutUndefined<Partial<GPTConfig>>({
    ...shapeFacts(state, { token, position, up: 'blocks.0.mlp.up.weight' }),
    nLayer,
    activation: swiglu ? 'swiglu' : undefined,
    ...normKind(state.has('blocks.0.ln1.weight'), state.has('blocks.0.ln1.bias')),
    fusedQkv,
    positionEncoding: state.has(position) ? 'learned' : 'rope',
    bias: state.has(`blocks.0.attn.${fusedQkv ? 'qkv' : 'q'}.bias`),
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
  const norm = (path: string): LayoutModule => (config.normScale ? weighted(path, path, config.normBias) : empty(path));
  yield empty('');
  yield weighted('tokenEmbedding', 'tokenEmbedding', false);
  if (config.positionEncoding === 'learned') yield weighted('positionEmbedding', 'positionEmbedding', false);
  for (let i = 0; i < config.nLayer; i++) {
    yield norm(`blocks.${i}.ln1`);
    for (const part of config.fusedQkv ? ['qkv'] : ['q', 'k', 'v'])
      yield linear(`blocks.${i}.attn.${part}`, config.bias);
    if (config.qkNorm !== 'none') yield* ['qNorm', 'kNorm'].map((part) => norm(`blocks.${i}.attn.${part}`));
    yield linear(`blocks.${i}.attn.proj`, config.projBias);
    if (config.parallelResidual !== 'one-norm') yield norm(`blocks.${i}.ln2`);
    if (config.normPosition === 'sandwich') yield* ['ln1Post', 'ln2Post'].map((part) => norm(`blocks.${i}.${part}`));
    if (isGated(config.activation) && !config.fusedGate) yield linear(`blocks.${i}.mlp.gate`, config.mlpBias);
    yield linear(`blocks.${i}.mlp.up`, config.mlpBias);
    yield linear(`blocks.${i}.mlp.down`, config.mlpBias);
  }
  yield norm('lnF');
  yield isQuantized ? linear('lmHead', config.lmHeadBias) : headModule('lmHead', config);
}
