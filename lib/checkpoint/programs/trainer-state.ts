import { describe } from '../../errors';
import { Float } from '../../pickle/types';
import type { JsonObject } from '../files';
import { numberIn, wrong } from '../saved-model';

/** What Hugging Face's Trainer notes of a run: trainer_state.json and scheduler.pt, and both at another step. */

export interface TrainerState {
  /** trainer_state.json as it came. */
  text: string;
  /** Optimizer updates made. */
  step: number;
  /** Passes over the data, with the part of the present one; null where the file does not say. */
  epoch: number | null;
}

/** @throws CheckpointError for what is no state of Trainer */
export function parseTrainerState(file: string, text: string): TrainerState {
  const json = parsePythonJson(file, text);
  const { global_step: step, epoch } = json;
  if (!Number.isSafeInteger(step) || (step as number) < 0)
    throw wrong(file, `expected global_step to be an integer of at least 0, got ${describe(step)}`);
  return { text, step: step as number, epoch: typeof epoch === 'number' ? epoch : null };
}

/** Python writes NaN and the infinities as bare words; nothing that is read here can be one. */
function parsePythonJson(file: string, text: string): JsonObject {
  const strict = text.replace(/"(?:[^"\\]|\\.?)*(?:"|$)|-?\b(?:NaN|Infinity)\b/gs, (token) =>
    token.startsWith('"') ? token : 'null',
  );
  let value: unknown;
  try {
    value = JSON.parse(strict);
  } catch (error) {
    throw wrong(file, `not valid JSON: ${(error as Error).message}`);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw wrong(file, `expected a JSON object, got ${describe(value)}`);
}

/**
 * The text of trainer_state.json at a step. The epoch moves in proportion; all else, the log and the best metric among it,
 * stays as Trainer wrote it.
 *
 * @throws CheckpointError for a text that is not laid out as Trainer does
 */
export function trainerStateAt(file: string, { text, step: before, epoch }: TrainerState, step: number): string {
  if (step === before) return text;
  const moved = epoch === null || before === 0 ? null : (epoch * step) / before;
  let changed = replaceField(text, 'global_step', String(step));
  if (moved !== null) changed = replaceField(changed, 'epoch', Number.isInteger(moved) ? `${moved}.0` : `${moved}`);
  if (parseTrainerState(file, changed).step === step) return changed;
  throw wrong(
    file,
    'it is not laid out as Trainer does, with each field on a line of its own: its step cannot be changed',
  );
}

/** Fields of the object itself are indented by two; those within it by more, and strings have no line breaks. */
function replaceField(text: string, name: string, value: string): string {
  return text.replace(new RegExp(`^( {2}"${name}": )[^,\r\n]+`, 'm'), (_, start: string) => start + value);
}

/**
 * scheduler.pt at a step: the counters of PyTorch's LambdaLR, which Trainer uses, go on by the updates made, and the last rates
 * are those of the optimizer's groups. A scheduler that counts otherwise stays as it was. Without one that came, a LambdaLR
 * whose base rates are the groups' own.
 */
export function schedulerAt(
  came: ReadonlyMap<string, unknown> | undefined,
  optimizerState: ReadonlyMap<string, unknown>,
  updates: { before: number; step: number },
): Map<string, unknown> {
  const groups = optimizerState.get('param_groups') as ReadonlyMap<string, unknown>[];
  const rates = groups.map((group) => new Float(numberIn(group.get('lr'))!));
  if (came === undefined) return freshScheduler(groups, rates, updates.step);
  const scheduler = new Map(came);
  const [last, count] = [came.get('last_epoch'), came.get('_step_count')];
  if (typeof last === 'number' && typeof count === 'number') {
    scheduler.set('last_epoch', last + updates.step - updates.before);
    scheduler.set('_step_count', count + updates.step - updates.before);
  }
  if (Array.isArray(came.get('_last_lr'))) scheduler.set('_last_lr', rates);
  return scheduler;
}

function freshScheduler(
  groups: readonly ReadonlyMap<string, unknown>[],
  rates: readonly Float[],
  step: number,
): Map<string, unknown> {
  const base = groups.map((group) => new Float(numberIn(group.get('initial_lr') ?? group.get('lr'))!));
  return new Map<string, unknown>([
    ['base_lrs', base],
    ['last_epoch', step],
    ['_step_count', step + 1],
    ['_is_initial', false],
    ['_get_lr_called_within_step', false],
    ['_last_lr', rates],
    ['lr_lambdas', groups.map(() => new Map())],
  ]);
}
