import { totalmem } from 'node:os';
import { TorchBindError } from '../errors';
import { itemSize } from '../tensor/dtype';
import type { DeviceName } from '../tensor/schema-types';
import { countWeights, type GPTConfig } from './config';
import type { WeightDType } from './precision';

/** Refuses a model that is larger than the memory: the system would end the process somewhere while it is made. */
export function checkSize(
  config: GPTConfig,
  { device, dtype }: { device: DeviceName; dtype: WeightDType },
  memory = totalmem(),
): void {
  const bytes = itemSize(dtype) * countWeights(config);
  if (device !== 'cpu' || bytes <= memory) return;
  const inGigabytes = (count: number): string => `${Number((count / 1e9).toPrecision(3))} GB`;
  throw new TorchBindError(
    `GPT config: the weights of a model of this size take ${inGigabytes(bytes)} in ${dtype}, and this machine has ` +
      `${inGigabytes(memory)} of memory. Check nLayer (${config.nLayer}), nEmbd (${config.nEmbd}), vocabSize ` +
      `(${config.vocabSize}) and blockSize (${config.blockSize})${dtype === 'float32' ? ", or say { dtype: 'bfloat16' }" : ''}.`,
    'ERR_TORCHBIND_CONFIG',
  );
}
