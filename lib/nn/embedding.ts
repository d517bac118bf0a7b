import { checkOptions } from '../errors';
import { empty } from '../tensor/creation';
import { embedding } from '../tensor/generated/functions';
import type { Tensor } from '../tensor/tensor';
import { normal_ } from './init';
import type { FactoryOptions } from './linear';
import { Module } from './module';
import { makeParameter } from './parameter';
import type { Parameter } from './parameter';

/** A row of a learned table for each index (PyTorch's `torch.nn.Embedding`): int64 (...) to (..., dim); weight (count, dim). */
export class Embedding extends Module {
  weight: Parameter;

  constructor(
    readonly numEmbeddings: number,
    readonly embeddingDim: number,
    options: FactoryOptions = {},
  ) {
    super();
    checkOptions(options, ['device', 'dtype', 'init'], 'Embedding');
    const { init = true, ...place } = options;
    this.weight = makeParameter(() => empty([numEmbeddings, embeddingDim], place));
    if (init) this.resetParameters();
  }

  /** Draws new rows from N(0, 1), as PyTorch does. */
  resetParameters(): void {
    normal_(this.weight);
  }

  override extraRepr(): string {
    return `${this.numEmbeddings}, ${this.embeddingDim}`;
  }

  forward(indices: Tensor): Tensor {
    return embedding(this.weight, indices);
  }
}
