import { TorchBindError } from '../errors';
import type { GPTModel } from '../models/gpt-model';
import { layoutByName } from '../models/layouts';
import { attachLora } from '../models/lora';
import { attachQuantized } from '../models/quantize';
import { adaptedLayers } from '../models/layouts/lora';
import { withPlaceholders } from '../nn/parameter';
import { type LoraFacts, type PeftAdapter, type SavedModel, formatError } from './saved-model';

/** LoRA adapters in files: how a model gets them before its weights are loaded, or after. */

/**
 * Gives a model the adapters that its state dict has, or the quantized layers.
 *
 * @param given what the caller says of them, which goes before what the files say
 * @throws ERR_TORCHBIND_CONFIG where neither says alpha
 */
export function attachSaved(model: GPTModel, saved: SavedModel, given: LoraFacts = {}): void {
  const { origin, recognised, config } = saved;
  if (recognised.quantized !== undefined) withPlaceholders(() => attachQuantized(model, recognised.quantized!));
  const found = recognised.lora;
  if (found === undefined) return;
  const said = saved.lora ?? {};
  const alpha = given.alpha ?? said.alpha ?? numeric(config.extra.lora_alpha);
  if (alpha === undefined) {
    throw new TorchBindError(
      `its LoRA adapters of rank ${found.rank} are scaled by alpha / rank, and the file does not say alpha. ` +
        `Say it: { lora: { alpha: ${2 * found.rank} } }.`,
      'ERR_TORCHBIND_CONFIG',
    );
  }
  const layout = found.keys === 'peft' ? layoutByName(recognised.layout.name) : recognised.layout;
  const fromScratch = recognised.layout.name === 'build-llm';
  attachLora(model, {
    rank: found.rank,
    alpha,
    dropout: given.dropout ?? said.dropout ?? numeric(config.extra.lora_dropout) ?? 0,
    rsLora: false,
    targets: adaptedLayers(layout, config, found.paths),
    keys: found.keys,
    detachBase: fromScratch || origin.program === 'build-llm',
    trainOthers: fromScratch,
  });
}

/** Gives a model the adapters that lie apart from it, and loads them. */
export function attachPeft(model: GPTModel, { weights, ...adapter }: PeftAdapter): void {
  const paths = new Set<string>();
  for (const key of weights.keys()) {
    const path = /^base_model\.model\.(.*)\.lora_[AB]\.default\.weight$/.exec(key)?.[1];
    if (path !== undefined) paths.add(path);
  }
  const targets = adaptedLayers(layoutByName(model.layout.name), model.config, paths);
  if (targets.length === 0)
    throw formatError(`its tensors belong to no layer of the base model: ${first(weights.keys())}`);
  attachLora(model, { ...adapter, targets, keys: 'peft', detachBase: false, trainOthers: false });
  const { missingKeys, unexpectedKeys } = model.loadStateDict(weights, { strict: false });
  const missing = missingKeys.filter((key) => /\.lora_[AB]\./.test(key));
  if (unexpectedKeys.length + missing.length === 0) return;
  throw formatError(
    `its tensors do not fit the base model. Unexpected: ${first(unexpectedKeys)}. Missing: ${first(missing)}`,
  );
}

/** Fields for a config.json of a model with adapters. */
export function adapterFields({ lora }: GPTModel): Record<string, unknown> {
  if (lora === null) return {};
  const { rank, alpha, dropout, rsLora } = lora;
  return { lora_rank: rank, lora_alpha: rsLora ? alpha * Math.sqrt(rank) : alpha, lora_dropout: dropout };
}

function numeric(value: unknown): number | undefined {
  return typeof value === 'number' ? value : undefined;
}

function first(keys: Iterable<string>): string {
  return [...keys].slice(0, 4).join(', ') || 'none';
}
