import { totalmem } from 'node:os';
import { TorchBindError } from '../errors';
import { countWeights, type GPTConfig } from './config';
import type { DeviceName } from '../tensor/schema-types';

/** Refuses a model that is larger than the memory: the system would end the process somewhere while it is made. */
export function checkSize(config: GPTConfig, device: DeviceName): void {
  const bytes = 4 * countWeights(config); // float32
  if (device !== 'cpu' || bytes <= totalmem()) return;
  const inGigabytes = (count: number): string => `${Number((count / 1e9).toPrecision(3))} GB`;
  throw new TorchBindError(
    `GPT config: the weights of a model of this size take ${inGigabytes(bytes)}, and this machine has ` +
      `${inGigabytes(totalmem())} of memory. Check nLayer (${config.nLayer}), nEmbd (${config.nEmbd}), vocabSize ` +
      `(${config.vocabSize}) and blockSize (${config.blockSize}).`,
    'ERR_TORCHBIND_CONFIG',
  );
}
