import { setImmediate as nextTurn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { memory } from '../../lib/tensor/scope';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Live tensors once the garbage collector has freed all that nothing refers to. */
export async function memoryInUse(): Promise<ReturnType<typeof memory>> {
  for (let i = 0; i < 5; i++) {
    await nextTurn();
    collect();
  }
  return memory();
}
