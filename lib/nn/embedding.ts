import { checkArgument, checkOptions } from '../errors';
import { embedding } from '../tensor/generated/functions';
import type { Tensor } from '../tensor/tensor';
import { normal_, zeros_ } from './init';
import type { FactoryOptions } from './linear';
import { Module } from './module';
import { emptyParameter, type Parameter } from './parameter';
import { optionsFrom, type Positional } from './positional';

/** The optional arguments in Python's order. */
const PLACES = ['paddingIdx'] as const;

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
    ...rest: Positional<EmbeddingOptions, typeof PLACES>
  ) {
    super();
    const options = optionsFrom<EmbeddingOptions>(rest, PLACES, 'Embedding', 2);
    checkOptions(options, ['paddingIdx', 'device', 'dtype', 'init'], 'Embedding');
    const { init = true, paddingIdx = null, ...place } = options;
    this.paddingIdx = paddingIdx === null ? null : rowOf(paddingIdx, numEmbeddings);
    this.weight = emptyParameter([numEmbeddings, embeddingDim], place);
    if (init) this.resetParameters();
  }

  /** Draws new rows from N(0, 1), as PyTorch does, and sets the row for padding to 0. */
  resetParameters(): void {
    normal_(this.weight);
    if (this.paddingIdx !== null) zeros_(this.weight.detach().select(0, this.paddingIdx));
  }

  override extraRepr(): string {
    const padding = this.paddingIdx === null ? '' : `, padding_idx=${this.paddingIdx}`;
    return `${this.numEmbeddings}, ${this.embeddingDim}${padding}`;
  }

  forward(indices: Tensor): Tensor {
    return embedding(this.weight, indices, this.paddingIdx ?? -1);
  }
}

/** The row that an index means, negative ones from the end. */
function rowOf(index: number, count: number): number {
  const isRow = Number.isSafeInteger(index) && Number.isSafeInteger(count) && index >= -count && index < count;
  checkArgument(isRow, 'a row of the table', index, 'Embedding: paddingIdx');
  return index < 0 ? index + count : index;
}
