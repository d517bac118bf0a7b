import path from 'node:path';
import type { Origin } from '../checkpoint/saved-model';
import { exists, writeText } from '../checkpoint/files';
import { hfGpt2 } from '../checkpoint/programs/hf-gpt2';
import { transformersFiles } from '../checkpoint/text-files';
import type { StorageCopies } from '../compute';
import { convertModel } from '../models/convert';
import { GPTModel } from '../models/gpt-model';
import { conformConfig, layoutByName } from '../models/layouts';
import { isHuggingFace } from '../models/layouts/layout';
import { huggingFaceJson, type Tokenizer } from '../tokenizers';
import type { Tensor } from '../tensor/tensor';
import { TorchBindError } from '../errors';
import { floatDType, type Wanted } from './options';
import { type TakenWeights, takeWeights } from './weights';

/** A package as a directory of Hugging Face. */

/** A snapshot of the model. */
export interface TakenModel {
  taken: TakenWeights;
  /** A model with the config and layout of the package. */
  described: GPTModel;
  /** Frees `described`. */
  release(): void;
}

/**
 * The model's weights with the family's key names. If the family computes exactly this model, the weights are not copied; otherwise
 * the model is converted first.
 *
 * @throws ERR_TORCHBIND_CONVERT naming what the family has no place for
 */
export function takeForHuggingFace(model: GPTModel, { force }: Wanted, copies: StorageCopies): TakenModel {
  const name = familyOf(model);
  if (model.layout.name === name || isComputedBy(model, name)) {
    const layout = model.layout.name === name ? model.layout : layoutByName(name);
    const taken = takeWeights(model, layout, copies);
    const { config, tokenizer } = model;
    const described = new GPTModel(config, { layout, tokenizer, device: 'meta', init: false });
    described.generationJson = model.generationJson;
    return { taken, described, release: () => described.dispose() };
  }
  const converted = convertModel(model, name, force === undefined ? {} : { force });
  const taken = takeWeights(converted, converted.layout, copies);
  return { taken, described: converted, release: () => converted.dispose() };
}

/** The family of Hugging Face that a model is written as: its own, or GPT-2, which others are converted to where that is exact. */
function familyOf({ layout }: GPTModel): string {
  return isHuggingFace(layout) ? layout.name : 'hf-gpt2';
}

/** Whether the family's config differs from the model's in nothing that has weights or changes results. */
function isComputedBy({ config }: GPTModel, layoutName: string): boolean {
  const target = conformConfig(layoutName, config);
  return Object.entries(target).every(([name, value]) => config[name as keyof typeof config] === value);
}

export async function writeHuggingFace(
  directory: string,
  { taken, described }: TakenModel,
  origin: Origin | undefined,
  { weights: kind, dtype }: Wanted,
): Promise<void> {
  const came = origin?.program === 'hf-gpt2' ? origin.kept : new Map<string, unknown>();
  const files = new Map(came.get('files') as Map<string, Buffer> | undefined);
  files.delete('README.md'); // the package has a card of its own
  const container = { kind: kind === 'pt' ? 'bin' : 'safetensors', weightMap: null, metadata: { format: 'pt' } };
  const kept = new Map<string, unknown>([
    ['config', came.get('config')],
    ['files', files],
    ['container', container],
  ]);
  const request = {
    model: described,
    weights: withoutTied(taken, described),
    step: null,
    optimizerState: null,
    kept,
    dtype: floatDType(dtype, origin?.dtype ?? null),
  };
  await hfGpt2.write(directory, request);
  const { tokenizer } = described;
  if (tokenizer === null || (await exists(path.join(directory, 'tokenizer.json'))) || files.has('vocab.json')) return;
  const json = await huggingFaceJson(tokenizer);
  if (json === undefined) throw otherTokenizer(tokenizer);
  const { config } = described;
  for (const [name, contents] of await transformersFiles({ config, tokenizer: null, generationJson: undefined }, json))
    await writeText(path.join(directory, name), contents);
}

/** safetensors of Hugging Face leave out what is the same as another tensor. */
function withoutTied({ snapshot }: TakenWeights, model: GPTModel): Map<string, unknown> {
  const weights = new Map(snapshot.weights as Map<string, Tensor>);
  for (const { key, aliasOf } of model.stateEntries('')) if (aliasOf !== undefined) weights.delete(key);
  return weights;
}

function otherTokenizer({ kind }: Tokenizer): TorchBindError {
  return new TorchBindError(
    `export: a tokenizer of the kind '${kind}' has no form that transformers reads. Set gpt.tokenizer to one of torchbind's, or to ` +
      'null to export the model without it.',
    'ERR_TORCHBIND_CONVERT',
  );
}
