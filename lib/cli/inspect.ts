import { Command } from 'commander';
import { checkpointDirectory, count, flag, jsonFlag } from './flags';
import type { ModelFlags } from './models';

interface InspectFlags extends ModelFlags {
  verify?: boolean;
  json?: boolean;
}

/** `torchbind inspect`. */
export function inspectCommand(): Command {
  return new Command('inspect')
    .summary('say what a file or directory holds, without loading it')
    .description(
      'Says what a checkpoint holds, its tensors not read: form, family, config, tokenizer, step, names in it.',
    )
    .argument('[model]', 'path of a file or directory, or the name of a model in the checkpoint directory')
    .addOption(flag('--model-name <name>', 'name of the model in the checkpoint directory'))
    .addOption(flag('--legacy-checkpoint <file>', 'a single file in its directory, such as final.pt'))
    .addOption(flag('--step <n>', 'the bundle that was kept of this step', { parse: count(0) }))
    .addOption(flag('--checkpoint-path <path>', "as the argument; '*' matches any text", { env: 'CHECKPOINT_PATH' }))
    .addOption(checkpointDirectory())
    .addOption(flag('--verify', 'read the files and compare them with their checksums'))
    .addOption(jsonFlag())
    .action(async (model: string | undefined, flags: InspectFlags) => {
      const { findModel } = await import('./models.js');
      const { inspect, formatInspection } = await import('../checkpoint/index.js');
      const { print } = await import('./output.js');
      const report = await inspect(await findModel(model, flags), { verify: flags.verify ?? false });
      print(flags.json, report, () => formatInspection(report));
    });
}
