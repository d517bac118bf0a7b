import { Command } from 'commander';
import { checkpointDirectory, count, flag, jsonFlag } from './flags';
import type { ListFlags } from './list-run';

/** `torchbind list`. */
export function listCommand(): Command {
  return new Command('list')
    .summary('list checkpoints')
    .description('Lists the checkpoints in a directory, the newest first: bundles of models and single files.')
    .argument('[dir]', 'directory to list, instead of --checkpoint-dir')
    .addOption(checkpointDirectory())
    .addOption(flag('--model-name <text>', 'only checkpoints of models whose name contains this text'))
    .addOption(flag('--source <text>', 'only checkpoints whose training file has this text in its name'))
    .addOption(flag('--step <n>', 'only checkpoints of this step', { parse: count(0) }))
    .addOption(jsonFlag())
    .action(async (directory: string | undefined, flags: ListFlags) => {
      const { runList } = await import('./list-run.js');
      await runList(directory === undefined ? flags : { ...flags, checkpointDir: directory });
    });
}
