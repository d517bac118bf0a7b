import type { MemoryBudget } from '../../pickle/budget';
import { CheckpointCode, CheckpointError } from '../../errors';

/** @throws CheckpointError where the budget has too little left for `bytes` more */
export function spend(budget: MemoryBudget, bytes: number, record?: string): void {
  if (!budget.take(bytes)) throw new CheckpointError(budget.message, CheckpointCode.limit, { record });
}
