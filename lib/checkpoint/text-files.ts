import path from 'node:path';
import { jsonBytes } from '../formats/files/json-bytes';
import { pythonJson } from '../formats/files/python-json';
import type { GPTModel } from '../models/gpt-model';
import { HuggingFaceTokenizer, settingsJson } from '../tokenizers';
import { runInSlices } from '../workers/slices';
import { bundleFiles, type JsonObject, readOptionalJson } from './files';

/** What reading and writing texts needs besides the weights. */
export type TextFacts = Pick<GPTModel, 'tokenizer' | 'generationJson'>;

type Files = Map<string, string | Uint8Array>;

/** Contents of files by name: the tokenizer, its chat template and special tokens, and the options of generation. */
export async function textFiles({ tokenizer, generationJson }: TextFacts): Promise<Files> {
  const files: Files = new Map();
  if (tokenizer !== null) {
    const isLarge = tokenizer instanceof HuggingFaceTokenizer;
    files.set(bundleFiles.tokenizer, isLarge ? await tokenizer.jsonBytes() : pythonJson(tokenizer.toJson()));
    const settings = settingsJson(tokenizer);
    if (settings !== undefined) files.set(bundleFiles.tokenizerConfig, pythonJson(settings));
  }
  if (generationJson !== undefined) files.set(bundleFiles.generation, pythonJson(generationJson));
  return files;
}

/**
 * The same for transformers, of a tokenizer that has its form.
 *
 * @param json of a tokenizer of another kind in that form
 */
export async function transformersFiles(
  { tokenizer: own, generationJson, config }: TextFacts & Pick<GPTModel, 'config'>,
  json?: object,
): Promise<Files> {
  const tokenizer = own instanceof HuggingFaceTokenizer ? own : null;
  const files = await textFiles({ tokenizer, generationJson });
  if (json !== undefined) files.set(bundleFiles.tokenizer, await runInSlices(jsonBytes(json)));
  if (!files.has(bundleFiles.tokenizer)) return files;
  const said = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    model_max_length: config.blockSize,
    clean_up_tokenization_spaces: false,
    ...(tokenizer && settingsJson(tokenizer)),
  };
  return files.set(bundleFiles.tokenizerConfig, pythonJson(said));
}

/** The options of generation that are in a file's directory. */
export function generationBeside(file: string): Promise<JsonObject | undefined> {
  return readOptionalJson(path.join(path.dirname(file), bundleFiles.generation));
}
