import { save } from '../../formats/pt';
import type { GPTModel } from '../../models/gpt';
import type { ConfigFacts } from '../../models/layouts';
import { Float } from '../../pickle/types';
import type { JsonObject } from '../files';
import { without } from '../legacy';
import {
  commonDType,
  factsFrom,
  numberIn,
  plainFields,
  type ReadOptions,
  recogniseIn,
  resolveConfig,
  type SavedModel,
} from '../saved-model';
import { type ModelToWrite, withWeights } from './form';

/**
 * Checkpoints of build_llm_karpathy: a dict of step, model_state_dict, optimizer_state_dict, hyperparameters, vocab_size,
 * block_size and batch_size. Its hyperparameters are of the model where that was made from scratch, and not where it is GPT-2.
 */

const names = {
  n_embd: 'nEmbd',
  n_head: 'nHead',
  n_layer: 'nLayer',
  dropout: 'dropout',
  block_size: 'blockSize',
  batch_size: 'batchSize',
} as const;

/** Heads of the models that it takes from Hugging Face. */
const gpt2Heads: Readonly<Record<string, number>> = { gpt2: 12, 'gpt2-medium': 16, 'gpt2-large': 20, 'gpt2-xl': 25 };

/** Whether a dict is such a checkpoint. */
export function isBuildLlm(dict: ReadonlyMap<string, unknown>): boolean {
  return dict.get('model_state_dict') instanceof Map && dict.get('hyperparameters') instanceof Map;
}

export function readBuildLlm(file: string, dict: Map<string, unknown>, options: ReadOptions): SavedModel {
  const weights = dict.get('model_state_dict') as Map<string, unknown>;
  const recognised = recogniseIn(file, weights);
  const fields = plainFields(dict.get('hyperparameters'));
  const optimizer = dict.get('optimizer_state_dict');
  const said = recognised.layout.name === 'hf-gpt2' ? gpt2Facts(fields) : factsFrom(fields, names);
  return {
    config: resolveConfig(file, recognised, said, options),
    tokenizer: options.tokenizer ?? null,
    weights,
    recognised,
    lora: { alpha: numberIn(fields.lora_alpha) ?? undefined, dropout: numberIn(fields.lora_dropout) ?? undefined },
    training: { step: numberIn(dict.get('step')), optimizerFile: null, run: null, extra: {} },
    optimizerState: optimizer instanceof Map ? (optimizer as Map<string, unknown>) : null,
    origin: {
      form: 'build-llm',
      path: file,
      saw: ['a dict of model_state_dict and hyperparameters, as build_llm_karpathy saves it', ...recognised.saw],
      dtype: commonDType(weights),
      kept: without(dict, ['model_state_dict', 'optimizer_state_dict']),
      hasOptimizer: optimizer instanceof Map,
    },
  };
}

function gpt2Facts({ gpt2_model_name: name, batch_size: batchSize }: JsonObject): ConfigFacts {
  const nHead = typeof name === 'string' && Object.hasOwn(gpt2Heads, name) ? gpt2Heads[name]! : undefined;
  return {
    ...(nHead === undefined ? {} : { nHead }),
    ...(typeof batchSize === 'number' ? { batchSize } : {}),
    dropout: 0.1,
  };
}

export async function writeBuildLlm(file: string, request: ModelToWrite): Promise<void> {
  const { kept, step, optimizerState, model } = request;
  await withWeights(request, (weights) => {
    const dict = new Map(kept).set('step', step).set('model_state_dict', weights);
    dict.set('hyperparameters', withAdapters(kept.get('hyperparameters'), model));
    return save(dict.set('optimizer_state_dict', optimizerState), file);
  });
}

/** What its program notes of adapters, where these were not in the file before. */
function withAdapters(hyperparameters: unknown, { lora }: GPTModel): unknown {
  if (!(hyperparameters instanceof Map)) return hyperparameters;
  const had = hyperparameters.get('use_lora') === true;
  if (had === (lora !== null)) return hyperparameters;
  if (lora === null) return new Map(hyperparameters as Map<string, unknown>).set('use_lora', false);
  const { rank, alpha, dropout } = lora;
  return new Map(hyperparameters as Map<string, unknown>)
    .set('use_lora', true)
    .set('lora_rank', rank)
    .set('lora_alpha', new Float(alpha))
    .set('lora_dropout', new Float(dropout));
}
