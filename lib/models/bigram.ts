import { type PathLike, toPath, TorchBindError } from '../errors';
import { load, save } from '../formats/pt';
import { Embedding } from '../nn/embedding';
import { Module } from '../nn/module';
import { crossEntropyLoss } from '../tensor/generated/functions';
import { dispose } from '../tensor/scope';
import { Tensor, unwrap } from '../tensor/tensor';
import type { GPTOutput } from './gpt-model';

const key = 'token_embedding_table.weight';

/**
 * The bigram model of Karpathy's lecture: one table (V, V), in which the row of a token holds the logits of the next.
 */
export class Bigram extends Module {
  private readonly token_embedding_table: Embedding;

  constructor(readonly vocabSize: number) {
    super();
    this.token_embedding_table = new Embedding(vocabSize, vocabSize);
  }

  /**
   * Logits (B, T, V) of the next token at every position, and the loss when targets are given.
   *
   * @param idx token ids, int64 (B, T)
   * @param targets the ids that follow, int64 (B, T)
   */
  forward(idx: Tensor, targets?: Tensor): GPTOutput {
    const logits = this.token_embedding_table.forward(idx); // (B, T, V)
    if (targets === undefined) return { logits };
    unwrap(targets, 'Bigram: targets');
    return { logits, loss: crossEntropyLoss(logits.view([-1, this.vocabSize]), targets.reshape([-1])) };
  }

  /**
   * Opens a file that holds its state dict.
   *
   * @throws ERR_TORCHBIND_LAYOUT for other files
   */
  static async load(file: PathLike): Promise<Bigram> {
    const state = await load(file);
    try {
      const table: unknown = state instanceof Map ? state.get(key) : undefined;
      if (
        !(table instanceof Tensor) ||
        (state as Map<unknown, unknown>).size !== 1 ||
        table.size(0) !== table.size(1)
      ) {
        throw new TorchBindError(
          `${toPath(file, 'Bigram.load')} is not a bigram model, whose state dict has the one square table ${key}.`,
          'ERR_TORCHBIND_LAYOUT',
        );
      }
      const model = new Bigram(table.size(0));
      model.loadStateDict(state as Map<string, unknown>);
      return model;
    } finally {
      dispose(state);
    }
  }

  /** Writes the state dict, as `torch.save(model.state_dict(), file)` does. */
  async save(file: PathLike): Promise<void> {
    const state = this.stateDict();
    await save(state, file).finally(() => dispose(state));
  }
}
