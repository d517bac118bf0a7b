import { CheckpointCode, CheckpointError, TorchBindError } from '../errors';
import { configTypeOf, modelTypes } from './decoder-configs';
import type { JsonObject } from './files';
import type { Listing } from './programs/program';

/** What others save that no GPT is made of here: named, with the way to something that opens. */

/** @throws CheckpointError ERR_TORCHBIND_CHECKPOINT_UNSUPPORTED for a directory of a known program that is not opened */
export function refuseForeign(listing: Listing): void {
  const { directory, names } = listing;
  const has = (pattern: RegExp): boolean => names.some((name) => pattern.test(name));
  if (has(/^zero_to_fp32\.py$|^mp_rank_\d+_model_states\.pt$/)) {
    throw unsupported(
      `${directory} is a checkpoint of DeepSpeed, whose weights are in parts. Convert it to one file with the script that ` +
        'DeepSpeed puts there: python zero_to_fp32.py . out',
    );
  }
  if (has(/^model_\d+\.pt$/) && has(/^meta_\d+\.json$/)) {
    throw unsupported(
      `${directory} holds a model of nanochat, an architecture that torchbind does not compute. ` +
        'load(path) reads the tensors of its model_N.pt.',
    );
  }
}

/** Words for the architecture that a config.json of Hugging Face names: `'llama' (LlamaForCausalLM)`. */
export function modelTypeOf({ model_type: type, architectures }: JsonObject): string {
  const [architecture] = Array.isArray(architectures) ? (architectures as unknown[]) : [];
  const name = typeof type === 'string' ? `'${type.slice(0, 60)}'` : 'none';
  return typeof architecture === 'string' ? `${name} (${architecture.slice(0, 60)})` : name;
}

/** @throws ERR_TORCHBIND_CONFIG for a config.json of a model of Hugging Face that is not computed here */
export function checkModelType(json: JsonObject): void {
  // transformers before 2.3 wrote no model_type. OpenAI's first GPT names its activation `afn`.
  if (
    configTypeOf(json) !== undefined ||
    json.model_type === 'gpt2' ||
    (json.model_type === undefined && !('afn' in json))
  )
    return;
  throw new TorchBindError(
    `expected model_type to be one of gpt2, ${modelTypes.join(', ')}, got ${modelTypeOf(json)}: torchbind does not compute ` +
      `this architecture${partsOf(json)}. load() and loadSafetensors() read its tensors.`,
    'ERR_TORCHBIND_CONFIG',
  );
}

/** Parts of a config.json for other things than text. */
function partsOf(json: JsonObject): string {
  const parts = ['vision_config', 'audio_config', 'encoder', 'text_config'].filter((field) => field in json);
  return parts.length === 0 ? '' : ` (its config has ${parts.join(' and ')})`;
}

function unsupported(message: string): CheckpointError {
  return new CheckpointError(message, CheckpointCode.unsupported);
}
