import { checkArgument, describe, TorchBindError } from '../errors';
import { isPlainObject } from '../objects';
import type { GenerateOptions } from './generate';
import type { BeamOptions, SequencesOption } from './generate-search';

/** Generation options that transformers stores with a model in `generation_config.json`. */
export interface GenerationConfig extends GenerateOptions, BeamOptions, Partial<SequencesOption> {}

type Json = Readonly<Record<string, unknown>>;

/** Options with the same values in transformers. */
const SAME = {
  max_new_tokens: 'maxNewTokens',
  min_new_tokens: 'minNewTokens',
  repetition_penalty: 'repetitionPenalty',
  no_repeat_ngram_size: 'noRepeatNgramSize',
  bad_words_ids: 'badWords',
  num_return_sequences: 'numReturnSequences',
  stop_strings: 'stop',
} as const;

/** Sampling options. */
const SAMPLING = {
  temperature: 'temperature',
  top_k: 'topK',
  top_p: 'topP',
  min_p: 'minP',
  typical_p: 'typicalP',
} as const;

/** Beam search options. */
const BEAMS = { num_beams: 'numBeams', length_penalty: 'lengthPenalty', early_stopping: 'earlyStopping' } as const;

/** Defaults of sampling: transformers takes the 50 most likely tokens if the file has no `top_k`. */
const SAMPLING_DEFAULTS = { temperature: 1, topK: 50, topP: 1 };

/** For options of transformers: the values that have no effect. */
const NEUTRAL: Readonly<Record<string, readonly unknown[]>> = {
  min_length: [0],
  repetition_penalty: [1],
  no_repeat_ngram_size: [0],
  min_new_tokens: [0],
  num_return_sequences: [1],
  num_beams: [1],
  length_penalty: [1],
  early_stopping: [false],
  min_p: [0],
  typical_p: [1],
  num_beam_groups: [1],
  diversity_penalty: [0],
  encoder_no_repeat_ngram_size: [0],
  encoder_repetition_penalty: [1],
  epsilon_cutoff: [0],
  eta_cutoff: [0],
  guidance_scale: [1],
  remove_invalid_values: [false],
  renormalize_logits: [false],
};

/** Options that change the text and that torchbind does not support. */
const MISSING = [
  'min_length',
  'num_beam_groups',
  'diversity_penalty',
  'constraints',
  'force_words_ids',
  'forced_bos_token_id',
  'forced_eos_token_id',
  'begin_suppress_tokens',
  'exponential_decay_length_penalty',
  'encoder_no_repeat_ngram_size',
  'encoder_repetition_penalty',
  'epsilon_cutoff',
  'eta_cutoff',
  'guidance_scale',
  'penalty_alpha',
  'dola_layers',
  'remove_invalid_values',
  'renormalize_logits',
  'watermarking_config',
];

/**
 * Reads the options of a `generation_config.json`. Missing fields have transformers' defaults: `greedy` unless
 * `do_sample`, and `topK: 50` with it.
 *
 * @throws ERR_TORCHBIND_CONFIG naming a field that changes the text and is not supported
 */
export function readGenerationConfig(json: Json): GenerationConfig {
  checkArgument(isPlainObject(json), 'what generation_config.json holds', json, 'readGenerationConfig');
  const missing = MISSING.find((name) => isSet(json, name));
  if (missing !== undefined)
    throw wrong(
      `${missing} is ${JSON.stringify(json[missing]).slice(0, 60)}, which torchbind does not have`,
      'Give the options yourself.',
    );
  const draws = json.do_sample === true;
  const searches = isSet(json, 'num_beams');
  if (draws && searches)
    throw wrong('do_sample and num_beams draw the beams, which torchbind does not', 'Leave one of them out.');
  const config: Record<string, unknown> = {};
  const take = (names: Readonly<Record<string, string>>): void => {
    for (const [name, own] of Object.entries(names)) if (isSet(json, name)) config[own] = json[name];
  };
  take(SAME);
  if (draws) {
    Object.assign(config, SAMPLING_DEFAULTS);
    take(SAMPLING);
    if (config.topK === 0) delete config.topK; // transformers: all tokens
    if (config.temperature === 1) delete config.temperature;
    if (config.topP === 1) delete config.topP;
  } else if (searches) take(BEAMS);
  else config.greedy = true;
  const stops = idsIn(json.eos_token_id, 'eos_token_id');
  if (stops.length > 0) config.stopTokens = stops;
  const suppressed = idsIn(json.suppress_tokens, 'suppress_tokens').map((id) => [id]);
  if (suppressed.length > 0) config.badWords = [...((config.badWords as number[][] | undefined) ?? []), ...suppressed];
  const biases = biasesIn(json.sequence_bias);
  if (biases !== undefined) config.logitBias = biases;
  return config;
}

/**
 * Writes options as the contents of a `generation_config.json`.
 *
 * @param before current contents of the file; fields without a corresponding option are kept
 * @throws ERR_TORCHBIND_CONFIG naming an option that transformers does not store
 */
export function writeGenerationConfig(options: GenerationConfig, before: Json = {}): Record<string, unknown> {
  checkArgument(isPlainObject(options), 'options of generate', options, 'writeGenerationConfig');
  checkArgument(isPlainObject(before), 'what generation_config.json holds', before, 'writeGenerationConfig');
  const {
    greedy,
    stopTokens,
    logitBias,
    temperature,
    topK,
    topP,
    minP,
    typicalP,
    maxNewTokens,
    minNewTokens,
    repetitionPenalty,
    noRepeatNgramSize,
    badWords,
    numReturnSequences,
    stop,
    numBeams,
    lengthPenalty,
    earlyStopping,
    ...others
  } = options;
  const other = Object.entries(others).find(([, value]) => value !== undefined);
  if (other !== undefined) throw wrong(`it has no field for ${other[0]}`, 'Leave it out of the config.');
  const mapped = [
    ...Object.keys({ ...SAME, ...SAMPLING, ...BEAMS }),
    'do_sample',
    'eos_token_id',
    'suppress_tokens',
    'sequence_bias',
  ];
  const kept = Object.fromEntries(Object.entries(before).filter(([name]) => !mapped.includes(name)));
  const searches = (numBeams ?? 1) > 1;
  const draws = greedy !== true && temperature !== 0 && !searches;
  const fields = {
    do_sample: draws,
    ...(draws ? { temperature, top_k: topK ?? 0, top_p: topP, min_p: minP, typical_p: typicalP } : {}),
    ...(searches ? { num_beams: numBeams, length_penalty: lengthPenalty, early_stopping: earlyStopping } : {}),
    max_new_tokens: maxNewTokens,
    min_new_tokens: minNewTokens,
    repetition_penalty: repetitionPenalty,
    no_repeat_ngram_size: noRepeatNgramSize,
    bad_words_ids: badWords,
    num_return_sequences: numReturnSequences,
    stop_strings: stop,
    eos_token_id: stopTokens?.length === 1 ? stopTokens[0] : stopTokens,
    sequence_bias: logitBias === undefined ? undefined : Object.entries(logitBias).map(([id, b]) => [[Number(id)], b]),
  };
  return { ...kept, ...Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) };
}

/** Whether a field is present with a value that has an effect. */
function isSet(json: Json, name: string): boolean {
  const value = json[name];
  return value !== undefined && value !== null && NEUTRAL[name]?.includes(value) !== true;
}

function idsIn(value: unknown, name: string): number[] {
  if (value === undefined || value === null) return [];
  const ids = Array.isArray(value) ? (value as unknown[]) : [value];
  if (ids.every((id) => Number.isSafeInteger(id) && (id as number) >= 0)) return ids as number[];
  throw wrong(`${name} is ${describe(value)}`, 'Expected a token id or a list of them.');
}

/** Biases of single tokens, from transformers' list of sequences and biases. */
function biasesIn(value: unknown): Record<number, number> | undefined {
  if (value === undefined || value === null) return undefined;
  const entries = Array.isArray(value) ? (value as unknown[]) : [value];
  return Object.fromEntries(
    entries.map((entry) => {
      const [ids, bias] = Array.isArray(entry) ? (entry as unknown[]) : [];
      if (Array.isArray(ids) && ids.length === 1 && Number.isSafeInteger(ids[0]) && typeof bias === 'number')
        return [ids[0] as number, bias];
      throw wrong(`sequence_bias holds ${describe(entry)}`, 'Only biases of single tokens are supported.');
    }),
  );
}

function wrong(message: string, next: string): TorchBindError {
  return new TorchBindError(`generation_config.json: ${message}. ${next}`, 'ERR_TORCHBIND_CONFIG');
}
