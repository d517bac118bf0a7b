import { Command } from 'commander';
import { type TrainFlags, trainFlagGroups } from './train-flags';

/** `torchbind train`. */
export function trainCommand(): Command {
  const command = new Command('train')
    .summary('train a model, or resume one')
    .description(
      'Trains a GPT on a text. If the checkpoint directory holds a model of that name, its training resumes.',
    );
  for (const [title, options] of Object.entries(trainFlagGroups)) {
    command.optionsGroup(`${title}:`);
    for (const option of options) command.addOption(option);
  }
  return command.addHelpText('after', examples).action(async (flags: TrainFlags, { args: _ }: Command) => {
    const isGiven = (name: keyof TrainFlags): boolean => command.getOptionValueSource(name) === 'cli';
    const { runTrain } = await import('./train-run.js');
    await runTrain(flags, isGiven);
  });
}

const examples = `
Defaults are in parentheses. Flags can be spelled with underscores (--max_iters). They take precedence over environment variables.

Examples:
  torchbind train --model-name dante --input-file dante.txt --tokenization char --max-iters 2000
  torchbind train --model-name dante --input-file dante.txt --max-iters 3000      (resumes)
  torchbind train --model-name poet --init-from-model dante --input-file poems.txt
  ENABLE_CHECKPOINTS=true CHECKPOINT_INTERVAL=500 TRAINING_STEPS=2000 TRAINING_DATA_SOURCE=letters.md torchbind train
  CHECKPOINT_PATH='checkpoints/checkpoint_bigram_*.pt' RESUME_TRAINING_STEPS=2000 torchbind train
`;
