import { Command } from 'commander';
import { checkpointDirectory, count, device, flag, jsonFlag } from './flags';
import type { CompareFlags } from './compare-run';

/** `torchbind compare`. */
export function compareCommand(): Command {
  return new Command('compare')
    .summary('compare the weights of two models, or what they write')
    .description(
      'Compares two models, given as paths or names: weight by weight, or with --prompt what each of them writes.',
    )
    .argument('<a>', "path of a file or directory, or a name in the checkpoint directory ('dante', 'dante@500')")
    .argument('<b>', 'the other one')
    .addOption(checkpointDirectory())
    .addOption(flag('--tensors <n>', 'list the n tensors that differ most', { parse: count(0) }))
    .addOption(flag('--prompt <text>', 'write a text with each, in place of comparing weights', { env: 'PROMPT' }))
    .addOption(
      flag('--max-new-tokens <n>', 'tokens to write at most', { env: 'MAX_NEW_TOKENS', parse: count(0) }).default(300),
    )
    .addOption(flag('--seed <n>', 'of what is written', { parse: count(0) }).default(0))
    .addOption(device())
    .addOption(jsonFlag())
    .action(async (a: string, b: string, flags: CompareFlags) => {
      const { runCompare } = await import('./compare-run.js');
      await runCompare(a, b, flags);
    });
}
