import type { Tensor } from '../../tensor/tensor';

/** Tensors by name, in the order of the file, as safetensors files and sharded checkpoints hold them. */
export class NamedTensors extends Map<string, Tensor> {
  /** The text that a safetensors file carries beside its tensors, `format` for instance. */
  readonly metadata = new Map<string, string>();
}
