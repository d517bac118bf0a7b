import { TorchBindError } from '../../errors';
import { bool, f32, type MetadataValue, u32 } from '../../formats/gguf/format';
import type { GPTConfig } from '../../models/config';

/** What llama.cpp computes for the models that a config.json of transformers names. */
interface GgufFamily {
  arch: string;
  activation: GPTConfig['activation'];
  /** It rotates neighbouring channels, so that the rows of queries and keys are put in that order. */
  permutes?: boolean;
  /** Projections that may have a bias; `always`: all of them must. */
  biases: 'always' | 'all' | 'qkv' | 'none';
  /** Queries, keys and values are in one matrix. */
  fused?: boolean;
  /** It knows RoPE of a part of the channels. */
  rotatesPart?: boolean;
  /** The head may have a weight of its own: always, never, or it must have one. */
  head: 'maybe' | 'never' | 'always';
  /** Layers with a sliding window, which the program knows by itself. */
  slides?: (layer: number) => boolean;
  /** Layers without positions, which the program knows by itself. */
  noRope?: (layer: number) => boolean;
  /** Facts that the file states. */
  states?: readonly ('attention' | 'embedding' | 'residual' | 'logits' | 'softcaps' | 'parallel')[];
}

const llama: GgufFamily = { arch: 'llama', activation: 'swiglu', permutes: true, biases: 'all', head: 'maybe' };
const qwen: GgufFamily = { ...llama, arch: 'qwen2', permutes: false, biases: 'qkv' };
const gemma: GgufFamily = {
  ...llama,
  arch: 'gemma',
  permutes: false,
  activation: 'geglu_tanh',
  biases: 'none',
  head: 'never',
};

/** LayerNorm, GELU and biases, as in GPT-2. */
const layerNorm: GgufFamily = { arch: 'gpt2', activation: 'gelu_tanh', biases: 'always', head: 'maybe', fused: true };

/** By `model_type`. */
const families: Readonly<Record<string, GgufFamily>> = {
  gpt2: { ...layerNorm, biases: 'all' },
  llama,
  mistral: llama,
  qwen2: qwen,
  qwen3: { ...qwen, arch: 'qwen3', biases: 'none' },
  smollm3: { ...llama, arch: 'smollm3', biases: 'none', noRope: (layer) => (layer + 1) % 4 === 0 },
  granite: { ...llama, arch: 'granite', states: ['attention', 'embedding', 'residual', 'logits'] },
  olmo2: { ...qwen, arch: 'olmo2', biases: 'none', head: 'always' },
  gemma,
  gemma2: { ...gemma, arch: 'gemma2', slides: (layer) => layer % 2 === 0, states: ['softcaps'] },
  gemma3_text: { ...gemma, arch: 'gemma3', slides: (layer) => (layer + 1) % 6 !== 0 },
  olmo: { ...llama, arch: 'olmo', biases: 'none' },
  stablelm: { ...qwen, arch: 'stablelm', head: 'always', rotatesPart: true, states: ['parallel'] },
  phi: { ...layerNorm, arch: 'phi2', head: 'always', fused: false, rotatesPart: true },
  phi3: { ...qwen, arch: 'phi3', biases: 'none', fused: true, rotatesPart: true },
  gpt_neox: { ...layerNorm, arch: 'gptneox', head: 'always', rotatesPart: true, states: ['parallel'] },
  gpt_bigcode: { ...layerNorm, arch: 'starcoder' },
};

/** A model as llama.cpp reads it. */
export interface GgufModel {
  family: GgufFamily;
  metadata: Map<string, MetadataValue>;
}

/**
 * The metadata of a model, but for its tokenizer.
 *
 * @param modelType as config.json names it
 * @param force write a model even if llama.cpp computes it differently
 * @throws ERR_TORCHBIND_CONVERT naming what llama.cpp does not compute
 */
export function ggufModel(modelType: string, config: GPTConfig, force: boolean): GgufModel {
  const family = Object.hasOwn(families, modelType) ? families[modelType] : undefined;
  if (family === undefined) {
    throw refuse(
      `llama.cpp does not support models of type ${modelType}. torchbind writes these types: ${Object.keys(families).join(', ')}. ` +
        'Save the model for transformers instead: gpt.save(directory).',
    );
  }
  const { fatal, others } = differences(family, config);
  const problems = force ? fatal : [...fatal, ...others];
  if (problems.length > 0) {
    const hint = fatal.length > 0 ? '' : ' To write it anyway, with different results, pass { force: true }.';
    throw refuse(`llama.cpp computes '${family.arch}' models differently: ${problems.join('; ')}.${hint}`);
  }
  return { family, metadata: metadataOf(family, config) };
}

/** What the program does not compute: `fatal` has no place in the file at all. */
function differences(family: GgufFamily, config: GPTConfig): { fatal: string[]; others: string[] } {
  const { arch, states = [], biases, head, fused = false } = family;
  const hasAll = biases === 'all' || biases === 'always';
  const says = (fact: NonNullable<GgufFamily['states']>[number]): boolean => states.includes(fact);
  const layers = range(config.nLayer);
  const fatal = [
    [config.lmHeadBias && arch !== 'phi2', 'the head has a bias'],
    [head === 'never' && !config.tieWeights, 'the head is not tied to the token embedding'],
    [!hasAll && config.projBias, 'the projection after attention has a bias'],
    [!hasAll && config.mlpBias, 'the MLP has biases'],
    [biases === 'always' && !(config.bias && config.projBias && config.mlpBias), 'projections have no biases'],
    [biases === 'none' && config.bias, 'queries, keys and values have biases'],
    [
      config.fusedQkv !== fused,
      'query, key and value weights are joined where llama.cpp expects separate ones, or the other way round',
    ],
    [
      config.fusedGate !== (arch === 'phi3'),
      'the matrices of the MLP are joined where llama.cpp expects separate ones, or the other way round',
    ],
    [config.positionOffset !== 0, 'position numbers have an offset'],
  ] as const;
  const scaling = config.ropeScaling?.type;
  const rotates = config.positionEncoding === 'rope';
  const slides = config.slidingWindow === null ? [] : (config.slidingLayers ?? layers);
  const others = [
    [config.activation !== family.activation, `the activation is ${config.activation}, expected ${family.activation}`],
    [config.scaleByLayer, 'attention scores are divided by the layer number'],
    [config.ropeInterleaved, 'RoPE pairs neighbouring channels'],
    [!family.rotatesPart && rotates && config.ropeSize !== config.headSize, 'RoPE rotates a part of the channels'],
    [scaling !== undefined && !(scaling === 'llama3' && family.permutes), `RoPE is scaled as ${scaling}`],
    [!same(config.noRopeLayers, layers.filter(family.noRope ?? never)), 'other layers have no positions'],
    [!says('attention') && !near(attentionFactor(config), config.headSize ** -0.5), 'scores have another scale'],
    [!says('embedding') && !near(config.embeddingScale, embeddingScaleOf(family, config)), 'embeddings are scaled'],
    [!says('residual') && config.residualScale !== 1, 'residuals are scaled'],
    [!says('logits') && config.logitScale !== 1, 'logits are scaled'],
    [!says('softcaps') && (config.attentionSoftcap ?? config.logitSoftcap) !== null, 'scores or logits are capped'],
    [
      family.slides === undefined
        ? slides.length > 0 && config.slidingWindow! < config.blockSize
        : !same(slides, layers.filter(family.slides)),
      'other layers have a sliding window',
    ],
  ] as const;
  const reasons = (list: readonly (readonly [boolean, string])[]): string[] =>
    list.filter(([differs]) => differs).map(([, reason]) => reason);
  return { fatal: reasons(fatal), others: reasons(others) };
}

function metadataOf({ arch, states = [], slides }: GgufFamily, config: GPTConfig): Map<string, MetadataValue> {
  const metadata = new Map<string, MetadataValue>([['general.architecture', { type: 'string', value: arch }]]);
  const set = (key: string, value: MetadataValue): void => void metadata.set(`${arch}.${key}`, value);
  set('vocab_size', u32(config.vocabSize));
  set('context_length', u32(config.blockSize));
  set('embedding_length', u32(config.nEmbd));
  set('block_count', u32(config.nLayer));
  set('feed_forward_length', u32(config.mlpHidden));
  set('attention.head_count', u32(config.nHead));
  set('attention.head_count_kv', u32(config.nKvHead));
  const eps = config.normType === 'rmsnorm' ? 'layer_norm_rms_epsilon' : 'layer_norm_epsilon';
  set(`attention.${eps}`, f32(config.normEps));
  if (config.positionEncoding === 'rope') {
    set('attention.key_length', u32(config.headSize));
    set('attention.value_length', u32(config.headSize));
    set('rope.dimension_count', u32(config.ropeSize));
    set('rope.freq_base', f32(config.ropeTheta));
    if (config.ropeLocalTheta !== null) set('rope.freq_base_swa', f32(config.ropeLocalTheta));
    if (config.ropeScale !== 1) {
      set('rope.scaling.type', { type: 'string', value: 'linear' });
      set('rope.scaling.factor', f32(config.ropeScale));
    }
  }
  if (slides !== undefined) set('attention.sliding_window', u32(config.slidingWindow!));
  if (states.includes('parallel')) set('use_parallel_residual', bool(config.parallelResidual !== 'none'));
  if (states.includes('attention')) set('attention.scale', f32(attentionFactor(config)));
  if (states.includes('embedding')) set('embedding_scale', f32(config.embeddingScale));
  if (states.includes('residual')) set('residual_scale', f32(config.residualScale));
  if (states.includes('logits')) set('logit_scale', f32(config.logitScale));
  if (states.includes('softcaps')) {
    if (config.attentionSoftcap !== null) set('attn_logit_softcapping', f32(config.attentionSoftcap));
    if (config.logitSoftcap !== null) set('final_logit_softcapping', f32(config.logitSoftcap));
  }
  return metadata;
}

function embeddingScaleOf({ arch }: GgufFamily, { nEmbd }: GPTConfig): number {
  return arch.startsWith('gemma') ? Math.sqrt(nEmbd) : 1;
}

function attentionFactor({ attentionMultiplier, attentionScale, headSize, nEmbd }: GPTConfig): number {
  return attentionMultiplier ?? { head: headSize, embd: nEmbd, none: 1 }[attentionScale] ** -0.5;
}

/** What a tensor of the model is called in the file, by its name in torchbind. */
export function ggufName(name: string, { normPosition }: GPTConfig): string {
  const [, layer, part] = /^(?:blocks\.(\d+)\.)?(.*)$/.exec(name)!;
  const [stem, suffix] = [part!.replace(/\.(weight|bias)$/, ''), part!.slice(part!.lastIndexOf('.'))];
  const names: Readonly<Record<string, string>> = {
    tokenEmbedding: 'token_embd',
    positionEmbedding: 'position_embd',
    lnF: 'output_norm',
    lmHead: 'output',
    ln1: normPosition === 'output' ? 'post_attention_norm' : 'attn_norm',
    ln2: normPosition === 'output' ? 'post_ffw_norm' : 'ffn_norm',
    ln1Post: 'post_attention_norm',
    ln2Post: 'post_ffw_norm',
    'attn.qkv': 'attn_qkv',
    'attn.q': 'attn_q',
    'attn.k': 'attn_k',
    'attn.v': 'attn_v',
    'attn.qNorm': 'attn_q_norm',
    'attn.kNorm': 'attn_k_norm',
    'attn.proj': 'attn_output',
    'mlp.gate': 'ffn_gate',
    'mlp.up': 'ffn_up',
    'mlp.down': 'ffn_down',
  };
  const known = names[stem];
  if (known === undefined) throw refuse(`the tensor ${name} has no place in a GGUF file`);
  return `${layer === undefined ? '' : `blk.${layer}.`}${known}${suffix}`;
}

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
const never = (): boolean => false;
const near = (a: number, b: number): boolean => Math.abs(a - b) <= 1e-6 * Math.abs(b);
const same = (a: readonly number[], b: readonly number[]): boolean => String(a) === String(b);

function refuse(reason: string): TorchBindError {
  return new TorchBindError(`GGUF: ${reason}`, 'ERR_TORCHBIND_CONVERT');
}
