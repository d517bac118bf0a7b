import type { GPTModel } from '../models/gpt-model';

/** The tokens that end a text: those that the model's `generation_config.json` names, or else the tokenizer's; none where neither does. */
export function endIdsOf({ generationJson, tokenizer, config: { vocabSize } }: GPTModel): number[] {
  const named = [generationJson?.eos_token_id ?? []].flat();
  const ends = named.length > 0 ? named : [tokenizer?.endId];
  return ends.filter((id): id is number => Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabSize);
}
