import { GPTModel } from '../models/gpt-model';
import type { GPTConfig } from '../models/config';
import { layoutByName } from '../models/layouts';
import type { CheckpointLayout, LayoutModule, LoraSpec } from '../models/layouts/layout';
import { attachLora } from '../models/lora';
import { attachQuantized } from '../models/quantize';
import type { Quantization } from '../nn/quantized-linear';
import type { Tensor } from '../tensor/tensor';
import { adoptPosted, type HeldTensor, type PostedModule, postModule } from './posted-module';
import type { DeviceName } from '../tensor/schema-types';

/** A GPT as `postMessage` carries it; its tokenizer does not come along. */
export interface PostedModel {
  config: GPTConfig;
  layout: PostedLayout;
  lora: LoraSpec | null;
  quantization: Quantization | null;
  module: PostedModule;
}

/** A layout, with its table as it is for one config: functions cannot be posted. */
interface PostedLayout {
  name: string;
  description: string;
  initialisation: CheckpointLayout['initialisation'];
  modules: LayoutModule[];
}

/** A model as it is to be posted, given the tickets of its tensors. */
export function postModel(model: GPTModel, held: readonly HeldTensor[], tickets: readonly number[]): PostedModel {
  const { config, lora, quantization, layout } = model;
  const inner = layout.adapters?.without ?? layout.quantized?.without ?? layout;
  const { name, description, initialisation } = inner;
  return {
    config,
    layout: { name, description, initialisation, modules: inner.modules(config) },
    lora,
    quantization,
    module: postModule(model, held, tickets),
  };
}

/** The model that was posted, made by `make` with its weights unset. */
export function receiveModel<M extends GPTModel>(
  { config, layout, lora, quantization, module }: PostedModel,
  make: (config: GPTConfig, options: { layout: CheckpointLayout; device: DeviceName; init: false }) => M,
): { model: M; tensors: Tensor[] } {
  const { modules, ...facts } = layout;
  const received = { ...layoutByName(layout.name), ...facts, modules: () => modules };
  // Without memory of its own: the tensors that were posted take the place of its parameters.
  const model = make(config, { layout: received, device: 'meta', init: false });
  if (lora !== null) attachLora(model, lora);
  if (quantization !== null) attachQuantized(model, quantization);
  return { model, tensors: adoptPosted(model, module) };
}
