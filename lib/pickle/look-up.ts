import { Cost, type Spend } from './budget';
import { isDangerousModule } from './dangerous';
import { CheckpointCode } from '../errors';
import { PickleConstant, UnsupportedGlobal } from './globals';
import type { PickleReaderOptions } from './reader';
import { GlobalName } from './types';

/**
 * What a name in a pickle stands for: an entry of the table, or inert data where that was asked for. Nothing is ever imported.
 *
 * @param fail makes the error for the opcode that is being read
 */
export function lookUp(
  module: string,
  name: string,
  { globals, inert = false }: Pick<PickleReaderOptions, 'globals' | 'inert'>,
  spend: Spend,
  fail: (message: string, code: CheckpointCode) => Error,
): unknown {
  const fullName = `${module === '__builtin__' ? 'builtins' : module}.${name}`;
  const entry = globals.get(fullName);
  if (entry instanceof UnsupportedGlobal) {
    throw fail(`the file holds ${entry.what} (${fullName}), which torchbind does not read`, CheckpointCode.unsupported);
  }
  if (entry !== undefined) return entry instanceof PickleConstant ? entry.value : entry;
  spend(Cost.object);
  if (inert !== 'all' && isDangerousModule(module)) {
    throw fail(
      `the pickle names ${JSON.stringify(fullName)}, which has no place in a checkpoint: the file may have been made to do harm. ` +
        'Nothing in it was executed',
      CheckpointCode.global,
    );
  }
  if (inert !== false) return new GlobalName(module, name);
  throw fail(
    `the pickle names ${JSON.stringify(fullName)}, which is not a class or function that torchbind knows; ` +
      "nothing in a checkpoint is executed. load(path, { unknown: 'inert' }) gives such objects as plain data",
    CheckpointCode.global,
  );
}
