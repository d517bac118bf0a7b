import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { pythonTimeout, repositoryRoot } from '../helpers/python';
import { temporaryDirectory } from '../helpers/tmp';
import { killAtRandom } from './kills';
import { endOf } from './ranks';
import { faultOf, startTorchrun, underTorchrun } from './restarts';

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

it(
  'torchbind train trains one model on two ranks under torchrun, of which one prints and saves',
  async () => {
    const cwd = temporaryDirectory();
    writeFileSync(path.join(cwd, 'input.txt'), 'the quick brown fox jumps over the lazy dog.\n'.repeat(30));
    const model = '--tokenization char --block-size 8 --n-embd 8 --n-head 2 --n-layer 1';
    const run = '--model-name m --input-file input.txt --max-iters 3 --batch-size 2 --eval-interval 0 --device cpu';
    const program = [path.join(repositoryRoot, 'dist/cli/main.js'), 'train', ...`${model} ${run}`.split(' ')];
    const child = await startTorchrun(program, { cwd });
    let printed = '';
    child.stdout.on('data', (text: string) => (printed += text));
    const { status, stderr } = await endOf(child);
    expect(status, stderr).toBe(0);
    const said = `${printed}${stderr}`;
    expect(said.split('2 ranks: 2 windows a batch on each, 4 windows an update on all')).toHaveLength(2);
    const state = readFileSync(path.join(cwd, 'checkpoints/m/training_state.json'), 'utf8');
    expect(JSON.parse(state)).toMatchObject({ step: 3 });
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
