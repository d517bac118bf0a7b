import { CheckpointCode, CheckpointError } from '../../errors';
import { Tensor } from '../../tensor/tensor';
import { TensorFacts } from './tensor-facts';

/** State dicts that hold a part of a model, as programs that train on several devices leave them. */

/** Weights that are matrices in every family. */
const matrix = /(^|\.)(wte|wpe|token_embedding_table|position_embedding_table|c_attn|c_fc|lm_head)\.weight$/;

/**
 * Why weights are only a part of a model: FSDP and DeepSpeed save the shard of one process where the program does not
 * gather them. Undefined for whole weights.
 */
export function ungathered(weights: ReadonlyMap<string, unknown>): string | undefined {
  for (const [key, value] of weights) {
    if (!(value instanceof Tensor || value instanceof TensorFacts)) continue;
    const { shape } = value;
    if (/(^|\.)_?flat_param(_\d+)?$/.test(key)) return `${key} is the flat parameter of FullyShardedDataParallel`;
    if (shape.includes(0))
      return `${key} is empty, of shape (${shape.join(', ')}), as DeepSpeed's ZeRO-3 and FSDP leave it`;
    if (matrix.test(key) && shape.length === 1) return `${key} is flat, of shape (${shape[0]}), as FSDP leaves it`;
  }
  return undefined;
}

/** @throws CheckpointError ERR_TORCHBIND_CHECKPOINT_UNSUPPORTED for weights that were saved without being gathered */
export function checkGathered(weights: ReadonlyMap<string, unknown>): void {
  const reason = ungathered(weights);
  if (reason === undefined) return;
  throw new CheckpointError(
    `the weights were saved without being gathered from all processes: ${reason}. Save them whole in Python: under ` +
      'FSDP get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)), under DeepSpeed ' +
      'stage3_gather_16bit_weights_on_model_save or zero_to_fp32.py.',
    CheckpointCode.unsupported,
  );
}
