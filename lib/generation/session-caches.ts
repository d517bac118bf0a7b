import { fusedUpdates } from '../optim/kernels';
import { ops } from '../tensor/ops';
import type { Context, KeptCache } from './context';
import type { SessionTurn } from './decoder';
import type { GPTModel } from '../models/gpt-model';

/** The caches of sessions between their turns. */
export class SessionCaches {
  private readonly kept = new Map<number, { cache: KeptCache; weights: string }>();

  constructor(private readonly model: GPTModel) {}

  /**
   * Gives a turn what its session has seen. A cache that was filled with other weights is freed.
   *
   * @returns what keeps the turn's cache for the next one
   */
  begin({ id, weights: callers }: SessionTurn, context: Context): () => void {
    const weights = `${callers} ${weightsVersion(this.model)}`;
    const entry = this.kept.get(id);
    this.kept.delete(id);
    if (entry?.weights === weights) context.reuse(entry.cache);
    else entry?.cache.cache.dispose();
    return () => {
      const cache = context.keep();
      if (cache === undefined) return;
      this.forget(id);
      this.kept.set(id, { cache, weights });
    };
  }

  fork(from: number, to: number): void {
    const entry = this.kept.get(from);
    if (entry === undefined) return;
    const { cache, weights } = entry;
    this.kept.set(to, { cache: { ...cache, cache: cache.cache.clone() }, weights });
  }

  forget(id: number): void {
    this.kept.get(id)?.cache.cache.dispose();
    this.kept.delete(id);
  }

  dispose(): void {
    for (const id of [...this.kept.keys()]) this.forget(id);
  }
}

/** A number that changes with each update of the weights that this thread makes or sees. */
export function weightsVersion(model: GPTModel): number {
  const versions = model.parameters().map((parameter) => Number(ops.aten._version(parameter)));
  return versions.reduce((sum, version) => sum + version, fusedUpdates());
}
