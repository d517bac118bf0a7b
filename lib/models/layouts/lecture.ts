import type { GPTConfig } from '../config';
import type { Initialisation, Layout, LayoutModule, LayoutParameter } from './layout';

/**
 * Layouts of the models that follow Karpathy's lecture "Let's build GPT": one module for each head, with the keys,
 * queries and values of its own, and the mask saved with each.
 */

interface Variant {
  name: string;
  description: string;
  /** What a block calls its MLP. */
  mlp: 'fwd' | 'ffwd';
  initialisation: Initialisation;
}

function lectureLayout({ mlp, ...facts }: Variant): Layout {
  return {
    ...facts,
    matches: (keys) =>
      keys.has('blocks.0.sa.heads.0.key.weight') && keys.has(`blocks.0.${mlp}.net.0.weight`) && keys.has('ln_f.weight'),
    modules: (config) => [...modules(config, mlp)],
  };
}

/** Keys of the MyPT program (seed layout): the MLP of a block is `fwd`. PyTorch's default initialisation. */
export const mypt = lectureLayout({
  name: 'mypt',
  description: 'MyPT bundles: heads apart, MLP named fwd',
  mlp: 'fwd',
  initialisation: 'pytorch',
});

/** Keys of karpathy/ng-video-lecture, gpt.py: the MLP of a block is `ffwd`. */
export const ngLecture = lectureLayout({
  name: 'ng-lecture',
  description: "models of Karpathy's ng-video-lecture: heads apart, MLP named ffwd",
  mlp: 'ffwd',
  initialisation: 'normal_02',
});

function* modules(config: GPTConfig, mlp: string): Generator<LayoutModule> {
  yield empty('');
  yield weighted('token_embedding_table', 'tokenEmbedding', false);
  yield weighted('position_embedding_table', 'positionEmbedding', false);
  yield empty('blocks');
  for (let i = 0; i < config.nLayer; i++) yield* block(config, `blocks.${i}`, mlp);
  yield weighted('ln_f', 'lnF', config.normBias);
  yield head(config);
}

function* block(config: GPTConfig, path: string, mlp: string): Generator<LayoutModule> {
  yield empty(path);
  yield empty(`${path}.sa`);
  yield empty(`${path}.sa.heads`);
  for (let head = 0; head < config.nHead; head++) yield* attentionHead(config, path, head);
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
function* attentionHead(config: GPTConfig, path: string, head: number): Generator<LayoutModule> {
  const size = config.nEmbd / config.nHead;
  const rows = (part: number): [number, number] => {
    const start = part * config.nEmbd + head * size;
    return [start, start + size];
  };
  const own = `${path}.sa.heads.${head}`;
  yield { path: own, tensors: [{ name: 'tril', buffer: 'causal_mask' }] };
  yield weighted(`${own}.key`, `${path}.attn.qkv`, config.bias, rows(1));
  yield weighted(`${own}.query`, `${path}.attn.qkv`, config.bias, rows(0));
  yield weighted(`${own}.value`, `${path}.attn.qkv`, config.bias, rows(2));
  yield empty(`${own}.dropout`);
}

function head(config: GPTConfig): LayoutModule {
  const module = weighted('lm_head', 'lmHead', config.lmHeadBias);
  if (config.tieWeights) module.tensors[0] = { name: 'weight', parameter: 'tokenEmbedding.weight', alias: true };
  return module;
}

/** A module without tensors of its own; state dicts list it in their metadata. */
function empty(path: string): LayoutModule {
  return { path, tensors: [] };
}

/** A module with a weight, and a bias where it has one, that are `rows` of those of the module `parameter` here. */
function weighted(path: string, parameter: string, bias: boolean, rows?: [number, number]): LayoutModule {
  const tensor = (name: string): LayoutParameter => ({
    name,
    parameter: `${parameter}.${name}`,
    ...(rows === undefined ? {} : { rows }),
  });
  return { path, tensors: bias ? [tensor('weight'), tensor('bias')] : [tensor('weight')] };
}
