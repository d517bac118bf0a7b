import { expect, it } from 'vitest';
import { pythonTimeout } from '../helpers/python';
import { temporaryDirectory } from '../helpers/tmp';
import { killAtRandom } from './kills';
import { faultOf, underTorchrun } from './restarts';

it(
  'a run whose ranks are killed continues from the last bundle under torchrun, and ends with the same weights',
  async () => {
    const undisturbed = await underTorchrun(temporaryDirectory(), 20, () => false);
    expect(faultOf(undisturbed, 20)).toBeUndefined();
    const { weights } = undisturbed.said.find(({ type }) => type === 'end')!;
    const killed = new Set<number>();
    const disturbed = await underTorchrun(temporaryDirectory(), 20, ({ type, rank, step }) => {
      const isDue = (type === 'step' && rank === 1 && step === 11) || (type === 'save' && rank === 0 && step === 15);
      if (!isDue || killed.has(step)) return false;
      killed.add(step);
      return true;
    });
    expect(disturbed.kills).toBe(2);
    expect(faultOf(disturbed, 20, weights)).toBeUndefined();
  },
  pythonTimeout,
);

// A campaign of minutes, on request.
it.runIf(process.env.KILLS !== undefined)(
  'as many kills as KILLS says, at random moments, leave no fault',
  async () => {
    expect(await killAtRandom(Number(process.env.KILLS))).toBe(0);
  },
  3_600_000,
);
