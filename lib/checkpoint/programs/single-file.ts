import { save } from '../../formats/pt';
import { configToJson } from '../../models/config';
import { type ModelToWrite, withWeights } from './program';

/** MyPT's first form: a dict of model_state_dict, config, tokenizer, step and optimizer_state_dict. */
export async function writeSingleFile(file: string, request: ModelToWrite): Promise<void> {
  const { model, step, optimizerState, kept } = request;
  await withWeights(request, (weights) =>
    save(
      new Map<string, unknown>([
        ['model_state_dict', weights],
        ['config', kept.get('config') ?? configToJson(model.config, model.layout.facts)],
        ['tokenizer', kept.get('tokenizer') ?? model.tokenizer?.toJson() ?? null],
        ['step', step],
        ['optimizer_state_dict', optimizerState],
      ]),
      file,
    ),
  );
}
