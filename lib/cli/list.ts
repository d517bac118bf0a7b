import { Command } from 'commander';
import { checkpointDirectory, count, flag, jsonFlag } from './flags';
import type { ListFlags } from './list-run';

/** `torchbind list`. */
export function listCommand(): Command {
  return new Command('list')
    .summary('list checkpoints')
    .description('Lists the checkpoints of a directory, the newest first: of models, and single files.')
    .argument('[dir]', 'as --checkpoint-dir')
    .addOption(checkpointDirectory())
    .addOption(flag('--model-name <text>', 'those of a model: its name, or a part of it'))
    .addOption(flag('--source <text>', 'those trained on a source: the name of its file, or a part of it'))
    .addOption(flag('--step <n>', 'those of a step', { parse: count(0) }))
    .addOption(jsonFlag())
    .action(async (directory: string | undefined, flags: ListFlags) => {
      const { runList } = await import('./list-run.js');
      await runList(directory === undefined ? flags : { ...flags, checkpointDir: directory });
    });
}
