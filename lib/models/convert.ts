import { isDeepStrictEqual } from 'node:util';
import { describe, TorchBindError } from '../errors';
import { sameBits } from '../nn/state-dict';
import { noGrad } from '../tensor/autograd';
import { tidy } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import { type GPTConfig, isGated } from './config';
import { GPTModel, type GPTModelOptions } from './gpt-model';
import { conformConfig, layoutByName } from './layouts';

/** Facts that change no result but while training. */
const harmless: readonly (keyof GPTConfig)[] = ['embeddingDropout', 'attentionDropout', 'extra', 'device', 'batchSize'];

/** Config fields that determine the parameters' shapes: `force` cannot convert between them. */
const structural: readonly (keyof GPTConfig)[] = [
  'normType', 'positionEncoding', 'mlpHidden', 'normPosition', 'nKvHead', 'headSize', 'qkNorm', 'normScale', 'parallelResidual', 'qkvByHead',
  'fusedGate', 'positionOffset',
]; // prettier-ignore

const biases = {
  bias: /\.attn\.(qkv|q|k|v)\.bias$/,
  projBias: /\.attn\.proj\.bias$/,
  mlpBias: /\.mlp\.(gate|up|down)\.bias$/,
  normBias: /(\.ln[12](Post)?|^lnF)\.bias$/,
  lmHeadBias: /^lmHead\.bias$/,
};

/**
 * Copies a model into another family. The result is exact: missing biases become zeros, zero biases are left out, a
 * tied head becomes a separate one, and another attention scale is folded into the query weights (exact up to rounding
 * if the factor is not a power of two).
 *
 * @param force drop or replace what the family cannot express, although results then differ
 * @throws ERR_TORCHBIND_CONVERT naming what the family cannot express
 */
export function convertModel(model: GPTModel, layoutName: string, options: { force?: boolean } = {}): GPTModel {
  const layout = layoutByName(layoutName);
  if (model.lora !== null) {
    throw new TorchBindError(
      `A model with LoRA adapters is written as it is only, not as '${layoutName}'. foldLora(model) puts the adapters into ` +
        'the weights; then it converts.',
      'ERR_TORCHBIND_CONVERT',
    );
  }
  if (model.quantization !== null) {
    throw new TorchBindError(
      `A model with weights of ${model.quantization.bits} bits is written as it is only, not as '${layoutName}': no family's program ` +
        'reads them. Convert the model that it was made from.',
      'ERR_TORCHBIND_CONVERT',
    );
  }
  const target = conformConfig(layoutName, model.config);
  const problems = problemsBetween(model, target);
  const fatal = problems.filter(({ fatal }) => fatal);
  const refused = options.force === true ? fatal : problems;
  if (refused.length > 0) {
    const hint = fatal.length > 0 ? '' : ' To write it all the same, with other results, pass { force: true }.';
    throw new TorchBindError(
      `A '${model.layout.name}' model does not convert to '${layoutName}' exactly: ` +
        `${refused.map(({ reason }) => reason).join('; ')}.${hint}`,
      'ERR_TORCHBIND_CONVERT',
    );
  }
  const converted = newModel(target, { layout, tokenizer: model.tokenizer, device: model.device, init: false });
  noGrad(() => tidy(() => copyParameters(model, converted)));
  converted.generationJson = model.generationJson;
  return converted;
}

/** @throws ERR_TORCHBIND_CONVERT where the family cannot have the config, or its modules are not those of the config */
function newModel(config: GPTConfig, options: GPTModelOptions): GPTModel {
  try {
    return new GPTModel(config, options);
  } catch (error) {
    const { code, message } = error as TorchBindError;
    if (code !== 'ERR_TORCHBIND_LAYOUT' && code !== 'ERR_TORCHBIND_CONFIG') throw error;
    throw new TorchBindError(message, 'ERR_TORCHBIND_CONVERT', { cause: error });
  }
}

interface Problem {
  reason: string;
  fatal: boolean;
}

function problemsBetween(model: GPTModel, target: GPTConfig): Problem[] {
  const { config } = model;
  const problems: Problem[] = [];
  for (const name of Object.keys(target) as (keyof GPTConfig)[]) {
    if (harmless.includes(name) || isDeepStrictEqual(config[name], target[name])) continue;
    const reason = reasonAgainst(model, target, name);
    if (reason !== undefined) problems.push({ reason, fatal: structural.includes(name) || isSwiglu(config, target) });
  }
  return problems;
}

function isSwiglu(a: GPTConfig, b: GPTConfig): boolean {
  return isGated(a.activation) !== isGated(b.activation);
}

function reasonAgainst(model: GPTModel, target: GPTConfig, name: keyof GPTConfig): string | undefined {
  const { config } = model;
  if (name in biases) {
    if (target[name] === true) return undefined;
    const parameters = model.namedParameters().filter(([own]) => biases[name as keyof typeof biases].test(own));
    const [found] = parameters.find(([, bias]) => !isZero(bias)) ?? [];
    return found && `it has no place for ${found}, which is not zero`;
  }
  if (name === 'tieWeights') {
    const tied = sameBits(model.lmHead.weight, model.tokenEmbedding.weight);
    return target.tieWeights && !tied ? "its head is the token embedding, and this model's is another" : undefined;
  }
  if (name === 'attentionScale') return undefined;
  // Queries, keys and values of equal sizes may be in one matrix or in three.
  if (name === 'fusedQkv') return undefined;
  return `${name} is ${describe(config[name])} here and ${describe(target[name])} there`;
}

function isZero(tensor: Tensor): boolean {
  return tidy(() => Number(tensor.detach().countNonzero().item()) === 0);
}

function copyParameters(model: GPTModel, converted: GPTModel): void {
  const sources = new Map<string, Tensor>(model.namedParameters());
  sources.set('lmHead.weight', model.lmHead.weight);
  const parts = apart(sources, model.config);
  const factor = scaleOf(model.config) / scaleOf(converted.config);
  for (const [name, target] of apart(new Map(converted.namedParameters()), converted.config)) {
    const source = parts.get(name);
    if (source === undefined) target.detach().zero_();
    else target.detach().copy_(source);
    if (factor !== 1 && /\.attn\.q\./.test(name)) target.detach().mul_(factor);
  }
}

/** Parameters by name. Queries, keys and values are separate views of a fused matrix. */
function apart(parameters: ReadonlyMap<string, Tensor>, { nHead, nKvHead, headSize }: GPTConfig): Map<string, Tensor> {
  const sizes = { q: nHead * headSize, k: nKvHead * headSize, v: nKvHead * headSize };
  const parts = new Map<string, Tensor>();
  for (const [name, tensor] of parameters) {
    if (!/\.attn\.qkv\./.test(name)) {
      parts.set(name, tensor);
      continue;
    }
    let start = 0;
    for (const [part, size] of Object.entries(sizes)) {
      parts.set(name.replace('.qkv.', `.${part}.`), tensor.detach().narrow(0, start, size));
      start += size;
    }
  }
  return parts;
}

function scaleOf({ attentionScale, attentionMultiplier, nEmbd, headSize }: GPTConfig): number {
  return attentionMultiplier ?? 1 / Math.sqrt({ head: headSize, embd: nEmbd, none: 1 }[attentionScale]);
}
