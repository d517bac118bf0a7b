import { withoutUndefined } from '../../objects';
import type { FamilyFacts, GPTConfig } from '../config';
import { classic, maskBuffer, shapeFacts } from './family';
import type { Family, Recognised, StateView } from './family';
import { empty, headModule, weighted } from './layout';
import type { Initialisation, CheckpointLayout, LayoutBuffer, LayoutModule } from './layout';

/**
 * Layouts of the models that follow Karpathy's lecture "Let's build GPT": one module for each head, with the keys,
 * queries and values of its own, and the mask saved with each.
 */

interface Variant {
  name: string;
  description: string;
  /** What a block calls its MLP. */
  mlp: 'fwd' | 'ffwd';
  /** Path of the norm after the last block. */
  finalNorm: (nLayer: number) => string;
  initialisation: Initialisation;
  facts: FamilyFacts;
  asks?: Recognised['asks'];
  /** What of a config the family's program leaves open besides sizes and dropout. */
  open: (config: GPTConfig) => Partial<GPTConfig>;
}

const mask: LayoutBuffer = { name: 'tril', buffer: 'causal_mask' };

function lectureFamily({ asks = [], ...variant }: Variant): Family {
  const { name, description, mlp, finalNorm } = variant;
  return {
    name,
    description,
    layout: lectureLayout(variant, mask),
    conform: (config) => ({ ...lectureModel, mlpHidden: 4 * config.nEmbd, ...variant.open(config) }),
    recognise(state) {
      const nLayer = state.count((i) => `blocks.${i}.sa.heads.0.key.weight`);
      const norm = `${finalNorm(nLayer)}.weight`;
      if (nLayer === 0 || !state.has(`blocks.0.${mlp}.net.0.weight`) || !state.has(norm)) return undefined;
      const facts = lectureFacts(state, mlp, nLayer);
      const buffer = maskBuffer(state, 'blocks.0.sa.heads.0.tril', 'tril');
      return {
        layout: lectureLayout(variant, buffer),
        facts,
        asks,
        saw: [
          `${nLayer} block(s) with ${facts.nHead} head(s) apart (blocks.0.sa.heads.0.key.weight)`,
          `MLPs called ${mlp}`,
          `the last norm as ${norm}`,
        ],
      };
    },
  };
}

const lectureModel: Partial<GPTConfig> = {
  ...classic,
  activation: 'relu',
  bias: false,
  projBias: true,
  mlpBias: true,
  normBias: true,
  lmHeadBias: true,
  tieWeights: false,
};

function lectureFacts(state: StateView, mlp: string, nLayer: number): Partial<GPTConfig> {
  const up = `blocks.0.${mlp}.net.0`;
  return withoutUndefined({
    ...shapeFacts(state, {
      token: 'token_embedding_table.weight',
      position: 'position_embedding_table.weight',
      up: `${up}.weight`,
    }),
    nLayer,
    nHead: state.count((i) => `blocks.0.sa.heads.${i}.key.weight`),
    bias: state.has('blocks.0.sa.heads.0.key.bias'),
    projBias: state.has('blocks.0.sa.proj.bias'),
    mlpBias: state.has(`${up}.bias`),
    normBias: state.has('blocks.0.ln1.bias'),
    lmHeadBias: state.has('lm_head.bias'),
  });
}

/** Keys of the MyPT program (seed layout): the MLP of a block is `fwd`. PyTorch's default initialisation. */
export const mypt = lectureFamily({
  name: 'mypt',
  description: 'MyPT bundles: heads apart, MLP named fwd',
  mlp: 'fwd',
  finalNorm: () => 'ln_f',
  initialisation: 'pytorch',
  facts: () => ({}),
  open: ({ bias }) => ({ bias }),
});

/** Keys of karpathy/ng-video-lecture, gpt.py: the MLP of a block is `ffwd`. Its early form scaled scores by n_embd. */
export const ngLecture = lectureFamily({
  name: 'ng-lecture',
  description: "models of Karpathy's ng-video-lecture: heads apart, MLP named ffwd",
  mlp: 'ffwd',
  finalNorm: () => 'ln_f',
  initialisation: 'normal_02',
  facts: () => ({}),
  asks: ['attentionScale'],
  // Today's gpt.py scales by the head size, whatever scale the model had that is converted to it.
  open: () => ({}),
});

/** Keys of build_llm_karpathy, from_scratch: the last norm is one more block, and scores are scaled by n_embd. */
export const buildLlm = lectureFamily({
  name: 'build-llm',
  description: 'from_scratch models of build_llm_karpathy: as ng-lecture, the last norm among the blocks',
  mlp: 'ffwd',
  finalNorm: (nLayer) => `blocks.${nLayer}`,
  initialisation: 'pytorch',
  facts: () => ({ attentionScale: 'embd' }),
  open: () => ({ attentionScale: 'embd' }),
});

function lectureLayout(variant: Omit<Variant, 'asks' | 'open'>, buffer: LayoutBuffer | undefined): CheckpointLayout {
  const { name, description, facts, initialisation } = variant;
  return { name, description, facts, initialisation, modules: (config) => [...modules(config, variant, buffer)] };
}

type Names = Pick<Variant, 'mlp' | 'finalNorm'>;

function* modules(config: GPTConfig, names: Names, buffer: LayoutBuffer | undefined): Generator<LayoutModule> {
  yield empty('');
  yield weighted('token_embedding_table', 'tokenEmbedding', false);
  yield weighted('position_embedding_table', 'positionEmbedding', false);
  yield empty('blocks');
  for (let i = 0; i < config.nLayer; i++) yield* block(config, `blocks.${i}`, names.mlp, buffer);
  yield weighted(names.finalNorm(config.nLayer), 'lnF', config.normBias);
  yield headModule('lm_head', config);
}

function* block(config: GPTConfig, path: string, mlp: string, buffer?: LayoutBuffer): Generator<LayoutModule> {
  yield empty(path);
  yield empty(`${path}.sa`);
  yield empty(`${path}.sa.heads`);
  for (let head = 0; head < config.nHead; head++) yield* attentionHead(config, path, head, buffer);
  yield weighted(`${path}.sa.proj`, `${path}.attn.proj`, config.projBias);
  yield empty(`${path}.sa.dropout`);
  yield empty(`${path}.${mlp}`);
  yield empty(`${path}.${mlp}.net`);
  yield weighted(`${path}.${mlp}.net.0`, `${path}.mlp.up`, config.mlpBias);
  yield empty(`${path}.${mlp}.net.1`); // the activation
  yield weighted(`${path}.${mlp}.net.2`, `${path}.mlp.down`, config.mlpBias);
  yield empty(`${path}.${mlp}.net.3`); // dropout
  yield weighted(`${path}.ln1`, `${path}.ln1`, config.normBias);
  yield weighted(`${path}.ln2`, `${path}.ln2`, config.normBias);
}

/** The fused rows are all queries, then all keys, then all values, each with the heads in order. */
function* attentionHead(config: GPTConfig, path: string, head: number, buffer?: LayoutBuffer): Generator<LayoutModule> {
  const size = config.nEmbd / config.nHead;
  const rows = (part: number): [number, number] => {
    const start = part * config.nEmbd + head * size;
    return [start, start + size];
  };
  const own = `${path}.sa.heads.${head}`;
  yield { path: own, tensors: buffer === undefined ? [] : [buffer] };
  yield weighted(`${own}.key`, `${path}.attn.qkv`, config.bias, { rows: rows(1) });
  yield weighted(`${own}.query`, `${path}.attn.qkv`, config.bias, { rows: rows(0) });
  yield weighted(`${own}.value`, `${path}.attn.qkv`, config.bias, { rows: rows(2) });
  yield empty(`${own}.dropout`);
}
