import { withoutUndefined } from '../../objects';
import { TorchBindError } from '../../errors';
import type { FamilyFacts, GPTConfig } from '../config';
import { classic, isOneTensor, maskBuffer, sameValues, shapeFacts } from './family';
import type { Family, Recognised, StateView } from './family';
import { decayMatrices, empty, headModule, weighted } from './layout';
import type { Initialisation, CheckpointLayout, LayoutBuffer, LayoutModule, OptimizerGroups } from './layout';

/**
 * Layouts that have OpenAI's names for GPT-2: nanoGPT, minGPT and Hugging Face's GPT-2. Keys hardly tell them apart:
 * Hugging Face stores weights as (in, out), minGPT does not tie the head, nanoGPT does.
 */

/** What files of these families differ in. */
interface Variant {
  /** Prefix of all keys except the head's: `transformer.`, or none as in files of Hugging Face's GPT2Model. */
  stem: 'transformer.' | '';
  /** Whether the state dict has a key for the head's weight even if that weight is tied. */
  tiedHead: boolean;
  /** Masks that are saved with each block's attention. */
  buffers: readonly LayoutBuffer[];
}

interface Facts {
  name: string;
  description: string;
  facts: FamilyFacts;
  conform: (config: GPTConfig) => Partial<GPTConfig>;
  conv1d: boolean;
  /** Order of the modules of an MLP. */
  mlp: readonly string[];
  initialisation: Initialisation;
  optimizerGroups: OptimizerGroups;
}

/** All biases or none, as nanoGPT's option has it. */
const biases = (bias: boolean): Partial<GPTConfig> => ({ bias, projBias: bias, mlpBias: bias, normBias: bias });

const nanogptFacts: Facts = {
  name: 'nanogpt',
  description: 'nanoGPT: transformer.h.0.attn.c_attn, tied head',
  facts: ({ bias, dropout }) => ({
    projBias: bias,
    mlpBias: bias,
    normBias: bias,
    lmHeadBias: false,
    tieWeights: true,
    activation: 'gelu',
    embeddingDropout: dropout,
  }),
  conform: ({ bias, projBias, mlpBias, normBias, nEmbd, dropout }) => ({
    ...classic,
    ...biases(bias || projBias || mlpBias || normBias),
    lmHeadBias: false,
    tieWeights: true,
    activation: 'gelu',
    mlpHidden: 4 * nEmbd,
    embeddingDropout: dropout,
    attentionDropout: dropout,
  }),
  conv1d: false,
  mlp: ['c_fc', 'gelu', 'c_proj', 'dropout'],
  initialisation: 'gpt2',
  optimizerGroups: decayMatrices,
};

const mingptFacts: Facts = {
  name: 'mingpt',
  description: 'minGPT: the keys of nanoGPT with masks, the head not tied',
  facts: ({ dropout }) => ({
    bias: true,
    lmHeadBias: false,
    tieWeights: false,
    activation: 'gelu_tanh',
    embeddingDropout: dropout,
  }),
  conform: ({ nEmbd }) => ({
    ...classic,
    ...biases(true),
    lmHeadBias: false,
    tieWeights: false,
    activation: 'gelu_tanh',
    mlpHidden: 4 * nEmbd,
  }),
  conv1d: false,
  mlp: ['c_fc', 'c_proj', 'act', 'dropout'],
  initialisation: 'gpt2',
  optimizerGroups: {
    groupOf: ({ key }) => (/(c_attn|c_proj|c_fc|lm_head)\.weight$/.test(key) ? 0 : 1),
    order: 'alphabetical',
    weightDecay: [0.1, 0],
    betas: [0.9, 0.95],
  },
};

const hfFacts: Facts = {
  name: 'hf-gpt2',
  description: "Hugging Face's GPT-2: weights of blocks as (in, out)",
  facts: ({ dropout }) => ({
    bias: true,
    lmHeadBias: false,
    tieWeights: true,
    activation: 'gelu_tanh',
    embeddingDropout: dropout,
  }),
  conform: ({ activation, attentionScale, scaleByLayer, normEps }) => ({
    ...classic,
    ...biases(true),
    lmHeadBias: false,
    activation: activation === 'swiglu' ? 'gelu_tanh' : activation,
    attentionScale: attentionScale === 'none' ? 'none' : 'head',
    scaleByLayer,
    normEps,
  }),
  conv1d: true,
  mlp: ['c_fc', 'c_proj', 'act', 'dropout'],
  initialisation: 'gpt2',
  optimizerGroups: { ...decayMatrices, weightDecay: [0, 0], betas: [0.9, 0.999] },
};

const floatMask: LayoutBuffer = { name: 'bias', buffer: 'causal_mask' };

/** Keys of karpathy/nanoGPT. */
export const nanogpt = family(nanogptFacts, { stem: 'transformer.', tiedHead: true, buffers: [] });

/** Keys of karpathy/minGPT. */
export const mingpt = family(mingptFacts, { stem: 'transformer.', tiedHead: true, buffers: [floatMask] });

/** Keys of Hugging Face's GPT2LMHeadModel. */
export const hfGpt2 = family(hfFacts, { stem: 'transformer.', tiedHead: true, buffers: [] });

function family(facts: Facts, usual: Variant): Family {
  const { name, description } = facts;
  return {
    name,
    description,
    layout: gpt2Layout(facts, usual),
    conform: facts.conform,
    recognise(state) {
      const found = recogniseGpt2(state);
      return found?.facts === facts ? found.recognised : undefined;
    },
  };
}

function recogniseGpt2(state: StateView): { facts: Facts; recognised: Recognised } | undefined {
  const stem = state.has('wte.weight') ? '' : 'transformer.';
  const first = `${stem}h.0`;
  if (!state.has(`${stem}wte.weight`) || !state.has(`${first}.attn.c_attn.weight`)) return undefined;
  const weights = weightForm(state, stem);
  if (weights === undefined) return undefined;
  const buffers = ['bias', 'masked_bias']
    .map((name) => maskBuffer(state, `${first}.attn.${name}`, name))
    .filter((buffer) => buffer !== undefined);
  const head = headForm(state, stem);
  const { facts, asks } = programOf(state, stem, {
    conv1d: weights.conv1d,
    masked: buffers.length > 0,
    tied: head.tied,
  });
  const layout = gpt2Layout(facts, { stem, tiedHead: state.has('lm_head.weight'), buffers: buffers.map(anySize) });
  const saw = [
    `${stem}wte.weight and ${first}.attn.c_attn.weight, the names of GPT-2`,
    weights.saw,
    ...buffers.slice(0, 1).map(({ name }) => `attention masks (${first}.attn.${name})`),
    head.saw,
  ];
  const config = configFacts(state, stem, weights.conv1d, head.tied && facts !== mingptFacts);
  return { facts, recognised: { layout, facts: config, saw, asks: ['nHead', ...asks] } };
}

/**
 * The program whose state dict it is. nanoGPT without flash attention and minGPT save the same keys and masks. nanoGPT's
 * head and embedding are one tensor; minGPT's are two, whatever their values. Two equal tensors may be a copy of
 * nanoGPT's one: then nothing tells which activation the model has.
 */
function programOf(
  state: StateView,
  stem: string,
  { conv1d, masked, tied }: { conv1d: boolean; masked: boolean; tied: boolean },
): { facts: Facts; asks: Recognised['asks'] } {
  if (conv1d) return { facts: hfFacts, asks: [] };
  const isNano = !masked || state.program === 'nanogpt' || !state.has('lm_head.weight');
  if (isNano || isOneTensor(state, 'lm_head.weight', `${stem}wte.weight`) === true)
    return { facts: nanogptFacts, asks: [] };
  return { facts: mingptFacts, asks: tied ? ['activation'] : [] };
}

/** A mask's shape follows the context. */
function anySize({ shape, ...buffer }: LayoutBuffer): LayoutBuffer {
  return shape === undefined || shape.length < 2 ? { ...buffer, shape } : buffer;
}

/** Whether weights are (in, out), as in Hugging Face's Conv1D, and what was seen of that. */
function weightForm(state: StateView, stem: string): { conv1d: boolean; saw: string } | undefined {
  const key = `${stem}h.0.attn.c_attn.weight`;
  const shape = state.shape(key);
  if (shape === undefined) {
    throw new TorchBindError(
      `nanoGPT, minGPT and Hugging Face's GPT-2 all have these keys; only the shapes of the weights tell them apart. ` +
        'Pass the state dict instead of its keys.',
      'ERR_TORCHBIND_LAYOUT',
    );
  }
  const conv1d = shape[1] === 3 * shape[0]!;
  // Multi-query attention (GPT-BigCode) has the names of GPT-2, and neither shape.
  if (!conv1d && shape[0] !== 3 * shape[1]!) return undefined;
  const form = conv1d ? "(in, out), as Hugging Face's Conv1D has it" : '(out, in), as Linear has it';
  return { conv1d, saw: `${key} of shape (${shape.join(', ')}): ${form}` };
}

/** Whether the head is the token embedding, and what was seen of that. */
function headForm(state: StateView, stem: string): { tied: boolean; saw: string } {
  if (!state.has('lm_head.weight')) return { tied: true, saw: 'no lm_head.weight: the head is the token embedding' };
  const tied = sameValues(state, 'lm_head.weight', `${stem}wte.weight`) ?? true;
  return {
    tied,
    saw: `lm_head.weight ${tied ? 'equal to' : 'other than'} ${stem}wte.weight: ${tied ? '' : 'not '}tied`,
  };
}

function configFacts(state: StateView, stem: string, conv1d: boolean, tieWeights: boolean): Partial<GPTConfig> {
  const first = `${stem}h.0`;
  return withoutUndefined({
    ...shapeFacts(state, {
      token: `${stem}wte.weight`,
      position: `${stem}wpe.weight`,
      up: `${first}.mlp.c_fc.weight`,
      upTransposed: conv1d,
    }),
    nLayer: state.count((i) => `${stem}h.${i}.attn.c_attn.weight`),
    bias: state.has(`${first}.attn.c_attn.bias`),
    projBias: state.has(`${first}.attn.c_proj.bias`),
    mlpBias: state.has(`${first}.mlp.c_fc.bias`),
    normBias: state.has(`${first}.ln_1.bias`),
    lmHeadBias: state.has('lm_head.bias'),
    tieWeights,
  });
}

function gpt2Layout(facts: Facts, variant: Variant): CheckpointLayout {
  const { name, description, initialisation, optimizerGroups } = facts;
  return {
    name,
    description,
    facts: facts.facts,
    initialisation,
    optimizerGroups,
    modules: (config) => [...modules(config, facts, variant)],
  };
}

function* modules(config: GPTConfig, facts: Facts, { stem, tiedHead, buffers }: Variant): Generator<LayoutModule> {
  const masks = buffers.map((buffer) => sized(buffer, config.blockSize));
  yield empty('');
  if (stem !== '') yield empty('transformer');
  yield weighted(`${stem}wte`, 'tokenEmbedding', false);
  yield weighted(`${stem}wpe`, 'positionEmbedding', false);
  yield empty(`${stem}drop`);
  yield empty(`${stem}h`);
  for (let i = 0; i < config.nLayer; i++) yield* block(config, facts, `${stem}h.${i}`, `blocks.${i}`, masks);
  yield weighted(`${stem}ln_f`, 'lnF', config.normBias);
  if (tiedHead || !config.tieWeights) yield headModule('lm_head', config);
}

/** Masks are (1, 1, T, T). */
function sized(buffer: LayoutBuffer, T: number): LayoutBuffer {
  return buffer.buffer === 'causal_mask' ? { ...buffer, shape: [1, 1, T, T] } : buffer;
}

function* block(
  config: GPTConfig,
  { conv1d, mlp }: Facts,
  path: string,
  here: string,
  masks: LayoutBuffer[],
): Generator<LayoutModule> {
  const options = { transpose: conv1d };
  yield empty(path);
  yield weighted(`${path}.ln_1`, `${here}.ln1`, config.normBias);
  yield { path: `${path}.attn`, tensors: masks };
  yield weighted(`${path}.attn.c_attn`, `${here}.attn.qkv`, config.bias, options);
  yield weighted(`${path}.attn.c_proj`, `${here}.attn.proj`, config.projBias, options);
  yield empty(`${path}.attn.attn_dropout`);
  yield empty(`${path}.attn.resid_dropout`);
  yield weighted(`${path}.ln_2`, `${here}.ln2`, config.normBias);
  yield empty(`${path}.mlp`);
  for (const name of mlp) {
    if (name === 'c_fc') yield weighted(`${path}.mlp.c_fc`, `${here}.mlp.up`, config.mlpBias, options);
    else if (name === 'c_proj') yield weighted(`${path}.mlp.c_proj`, `${here}.mlp.down`, config.mlpBias, options);
    else yield empty(`${path}.mlp.${name}`);
  }
}
