import path from 'node:path';
import { withPath } from '../../errors';
import { load } from '../../formats/pt';
import { stateDictError } from '../../optim/state-dict';
import { InertObject } from '../../pickle/types';
import { exists } from '../files';

/** Arguments of a Trainer, as an object of its class: read as data, no code of it is run. */
export const argumentsFile = 'training_args.bin';

/**
 * The values of `optim` with which Trainer makes a class of torch.optim. What it then wrote says which, because a program may
 * also give Trainer an optimizer of its own.
 */
const torchOptimizers = /^(adamw_(hf|torch|torch_fused|torch_xla|torch_npu_fused|apex_fused)|sgd|adagrad|rmsprop)$/;

/**
 * Refuses the state of optimizers that are not of torch.optim by the name that Trainer has for them. Some of them write the
 * keys of AdamW, and update by another rule.
 *
 * @throws ERR_TORCHBIND_OPTIMIZER_STATE
 */
export async function checkTrainerOptimizer(directory: string): Promise<void> {
  const file = path.join(directory, argumentsFile);
  const optim = await optimIn(file);
  if (optim === undefined || torchOptimizers.test(optim)) return;
  withPath(file, () => {
    throw stateDictError(
      `expected an optimizer of torch.optim, got optim='${optim}', which Trainer made. Open the model without its optimizer ` +
        'and train with a new one.',
    );
  });
}

/** The argument `optim`, a text or a member of an enum; undefined where it cannot be read. */
async function optimIn(file: string): Promise<string | undefined> {
  if (!(await exists(file))) return undefined;
  const args = await load(file, { unknown: 'inert' }).catch(() => undefined);
  const fields = args instanceof InertObject ? args.state : undefined;
  const optim: unknown = fields instanceof Map ? fields.get('optim') : undefined;
  const name: unknown = optim instanceof InertObject ? optim.args[0] : optim;
  return typeof name === 'string' ? name : undefined;
}
