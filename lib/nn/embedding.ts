import { checkArgument, checkOptions } from '../errors';
import { empty } from '../tensor/creation';
import { embedding } from '../tensor/generated/functions';
import type { Tensor } from '../tensor/tensor';
import { normal_, zeros_ } from './init';
import type { FactoryOptions } from './linear';
import { Module } from './module';
import { makeParameter } from './parameter';
import type { Parameter } from './parameter';

export interface EmbeddingOptions extends FactoryOptions {
  /** Row that gets no gradients and is 0 at first, for padding. Negative ones count from the end. Default none. */
  paddingIdx?: number | null;
}

/** A row of a learned table for each index (PyTorch's `torch.nn.Embedding`): int64 (...) to (..., dim); weight (count, dim). */
export class Embedding extends Module {
  weight: Parameter;
  readonly paddingIdx: number | null;

  constructor(
    readonly numEmbeddings: number,
    readonly embeddingDim: number,
    options: EmbeddingOptions = {},
  ) {
    super();
    checkOptions(options, ['paddingIdx', 'device', 'dtype', 'init'], 'Embedding');
    const { init = true, paddingIdx = null, ...place } = options;
    const isRow = Number.isSafeInteger(paddingIdx) && paddingIdx! >= -numEmbeddings && paddingIdx! < numEmbeddings;
    checkArgument(
      paddingIdx === null || isRow,
      `a row from ${-numEmbeddings} to ${numEmbeddings - 1}`,
      paddingIdx,
      'Embedding: paddingIdx',
    );
    this.paddingIdx = paddingIdx !== null && paddingIdx < 0 ? paddingIdx + numEmbeddings : paddingIdx;
    this.weight = makeParameter(() => empty([numEmbeddings, embeddingDim], place));
    if (init) this.resetParameters();
  }

  /** Draws new rows from N(0, 1), as PyTorch does, and sets the row for padding to 0. */
  resetParameters(): void {
    normal_(this.weight);
    if (this.paddingIdx !== null) zeros_(this.weight.detach().select(0, this.paddingIdx));
  }

  override extraRepr(): string {
    return `${this.numEmbeddings}, ${this.embeddingDim}`;
  }

  forward(indices: Tensor): Tensor {
    return embedding(this.weight, indices, this.paddingIdx ?? -1);
  }
}
