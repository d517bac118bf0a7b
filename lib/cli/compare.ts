import { Command } from 'commander';
import { checkpointDirectory, count, device, flag, jsonFlag } from './flags';
import type { CompareFlags } from './compare-run';

/** `torchbind compare`. */
export function compareCommand(): Command {
  return new Command('compare')
    .summary('compare the weights of two models, or their text')
    .description('Compares two models: tensor by tensor, or with --prompt by the text that each generates.')
    .argument(
      '<a>',
      "path of a file or directory, or name of a model in the checkpoint directory ('dante', or step 500 as 'dante@500')",
    )
    .argument('<b>', 'the other model')
    .addOption(checkpointDirectory())
    .addOption(flag('--tensors <n>', 'list the n tensors that differ most', { parse: count(0) }))
    .addOption(
      flag('--prompt <text>', 'generate a text with each model instead of comparing weights', { env: 'PROMPT' }),
    )
    .addOption(
      flag('--max-new-tokens <n>', 'maximum number of new tokens', { env: 'MAX_NEW_TOKENS', parse: count(0) }).default(
        300,
      ),
    )
    .addOption(flag('--seed <n>', 'seed of the generated texts', { parse: count(0) }).default(0))
    .addOption(device())
    .addOption(jsonFlag())
    .action(async (a: string, b: string, flags: CompareFlags) => {
      const { runCompare } = await import('./compare-run.js');
      await runCompare(a, b, flags);
    });
}
