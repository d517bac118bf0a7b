import { withoutUndefined } from '../../objects';
import type { GPTConfig } from '../config';
import { classic, sameValues, shapeFacts } from './family';
import type { Family, StateView } from './family';
import { empty, headModule, weighted } from './layout';
import type { CheckpointLayout, LayoutModule } from './layout';

/**
 * Keys of MyPT since the end of 2025: fused queries, keys and values, GELU or SwiGLU, LayerNorm or RMSNorm, learned
 * positions or RoPE. The head keeps a bias even where its weight is tied.
 */

const name = 'mypt-fused';
const description = 'later MyPT bundles: fused attention (sa.qkv), MLP named fwd';

const layout: CheckpointLayout = {
  name,
  description,
  facts: ({ bias, activation, normType }) => ({
    activation: 'gelu',
    projBias: bias,
    mlpBias: activation !== 'swiglu',
    normBias: normType !== 'rmsnorm',
  }),
  initialisation: 'gpt2_mlp',
  optimizerGroups: {
    groupOf: ({ key }, ndim) => (ndim < 2 || key.includes('embedding') || key.includes('ln') ? 1 : 0),
    order: 'definition',
    weightDecay: [0.1, 0],
    betas: [0.9, 0.95],
  },
  modules: (config) => [...modules(config)],
};

export const myptFused: Family = {
  name,
  description,
  layout,
  conform: ({ bias, projBias, activation, normType, positionEncoding, mlpHidden, nEmbd }) => ({
    ...classic,
    bias: bias || projBias,
    projBias: bias || projBias,
    activation: activation === 'swiglu' ? 'swiglu' : 'gelu',
    mlpBias: activation !== 'swiglu',
    mlpHidden: activation === 'swiglu' ? mlpHidden : 4 * nEmbd,
    normType,
    normBias: normType !== 'rmsnorm',
    normEps: normType === 'rmsnorm' ? 1e-6 : 1e-5,
    positionEncoding,
    lmHeadBias: true,
  }),
  recognise(state) {
    const nLayer = state.count((i) => `blocks.${i}.sa.qkv.weight`);
    if (nLayer === 0 || !state.has('token_embedding_table.weight')) return undefined;
    const { facts, saw } = configFacts(state, nLayer);
    return {
      layout,
      facts,
      saw: [`${nLayer} block(s) with fused attention (blocks.0.sa.qkv.weight)`, ...saw],
      asks: facts.positionEncoding === 'rope' ? ['nHead', 'blockSize'] : ['nHead'],
    };
  },
};

function configFacts(state: StateView, nLayer: number): { facts: Partial<GPTConfig>; saw: string[] } {
  const swiglu = state.has('blocks.0.fwd.w_gate.weight');
  const rmsnorm = !state.has('blocks.0.ln1.bias');
  const rope = !state.has('position_embedding_table.weight');
  const up = swiglu ? 'blocks.0.fwd.w_up' : 'blocks.0.fwd.net.0';
  const tied = sameValues(state, 'lm_head.weight', 'token_embedding_table.weight');
  const facts = withoutUndefined<Partial<GPTConfig>>({
    ...shapeFacts(state, {
      token: 'token_embedding_table.weight',
      position: 'position_embedding_table.weight',
      up: `${up}.weight`,
    }),
    nLayer,
    activation: swiglu ? 'swiglu' : undefined,
    normType: rmsnorm ? 'rmsnorm' : 'layernorm',
    positionEncoding: rope ? 'rope' : 'learned',
    bias: state.has('blocks.0.sa.qkv.bias'),
    projBias: state.has('blocks.0.sa.proj.bias'),
    mlpBias: state.has(`${up}.bias`),
    normBias: !rmsnorm,
    lmHeadBias: state.has('lm_head.bias'),
    tieWeights: tied,
  });
  const saw = [
    swiglu ? 'a gate in the MLP: SwiGLU' : 'no gate in the MLP: GELU',
    rmsnorm ? 'norms without bias: RMSNorm' : 'norms with bias: LayerNorm',
    rope ? 'no table of positions: RoPE' : 'a table of positions',
  ];
  return { facts, saw };
}

function* modules(config: GPTConfig): Generator<LayoutModule> {
  yield empty('');
  yield weighted('token_embedding_table', 'tokenEmbedding', false);
  if (config.positionEncoding === 'learned') yield weighted('position_embedding_table', 'positionEmbedding', false);
  yield empty('blocks');
  for (let i = 0; i < config.nLayer; i++) yield* block(config, `blocks.${i}`);
  yield weighted('ln_f', 'lnF', config.normBias);
  yield headModule('lm_head', config);
}

function* block(config: GPTConfig, path: string): Generator<LayoutModule> {
  yield empty(path);
  yield empty(`${path}.sa`);
  yield weighted(`${path}.sa.qkv`, `${path}.attn.qkv`, config.bias);
  yield weighted(`${path}.sa.proj`, `${path}.attn.proj`, config.projBias);
  yield empty(`${path}.sa.dropout`);
  yield empty(`${path}.fwd`);
  if (config.activation === 'swiglu') {
    yield weighted(`${path}.fwd.w_gate`, `${path}.mlp.gate`, config.mlpBias);
    yield weighted(`${path}.fwd.w_up`, `${path}.mlp.up`, config.mlpBias);
    yield weighted(`${path}.fwd.w_down`, `${path}.mlp.down`, config.mlpBias);
    yield empty(`${path}.fwd.dropout`);
  } else {
    yield empty(`${path}.fwd.net`);
    yield weighted(`${path}.fwd.net.0`, `${path}.mlp.up`, config.mlpBias);
    yield empty(`${path}.fwd.net.1`); // the activation
    yield weighted(`${path}.fwd.net.2`, `${path}.mlp.down`, config.mlpBias);
    yield empty(`${path}.fwd.net.3`); // dropout
  }
  yield weighted(`${path}.ln1`, `${path}.ln1`, config.normBias);
  yield weighted(`${path}.ln2`, `${path}.ln2`, config.normBias);
}
