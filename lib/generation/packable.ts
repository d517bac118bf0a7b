import { Dropout } from '../nn/dropout';
import { Embedding } from '../nn/embedding';
import { LayerNorm } from '../nn/layer-norm';
import { Linear } from '../nn/linear';
import type { Module } from '../nn/module';
import { ModuleList } from '../nn/module-list';
import { QuantizedLinear } from '../nn/quantized-linear';
import { OnePlusRMSNorm, RMSNorm } from '../nn/rms-norm';
import { Block, CausalSelfAttention, GPTModel, MLP } from '../models/gpt-model';
import { LoraLinear } from '../models/lora';

/** Modules that compute each token apart from the others; attention knows the sequences. */
const PACKABLE = new Set<unknown>([
  Block,
  CausalSelfAttention,
  Dropout,
  Embedding,
  LayerNorm,
  Linear,
  LoraLinear,
  MLP,
  ModuleList,
  QuantizedLinear,
  RMSNorm,
  OnePlusRMSNorm,
]);

/**
 * Whether tokens of several sequences may be packed in one pass. Not where a program has replaced a part of the model:
 * nobody knows what that does with neighbours of another sequence.
 */
export function isPackable(model: GPTModel): boolean {
  const own = GPTModel.prototype;
  if ((['forwardCached', 'makeCache'] as const).some((name) => model[name] !== own[name])) return false;
  // LongRoPE rotates by the length of the longest sequence.
  if (model.config.ropeScaling?.type === 'longrope') return false;
  return model.modules().every((module) => module === model || computesTokensApart(module));
}

function computesTokensApart(module: Module): boolean {
  return PACKABLE.has(module.constructor) && !Object.hasOwn(module, 'forward');
}
