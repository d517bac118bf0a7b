import type { DType } from '../../tensor/dtype';

/** What is known of a tensor without its values. */
export class TensorFacts {
  constructor(
    readonly shape: readonly number[],
    readonly dtype: DType,
    /** Equal for tensors of the same bytes; null where that is not known. */
    readonly identity: string | null,
  ) {}

  get ndim(): number {
    return this.shape.length;
  }
}
