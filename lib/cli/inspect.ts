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
    .summary('describe a checkpoint without loading it')
    .description(
      'Describes a checkpoint without reading its tensors: format, layout, config, tokenizer, step, names of tensors.',
    )
    .argument('[model]', 'path of a file or directory, or name of a model in the checkpoint directory')
    .addOption(flag('--model-name <name>', 'name of the model in the checkpoint directory'))
    .addOption(flag('--legacy-checkpoint <file>', "single file in the model's directory to open, such as final.pt"))
    .addOption(flag('--step <n>', 'open the kept bundle of this step', { parse: count(0) }))
    .addOption(
      flag('--checkpoint-path <path>', "path of a file or directory; '*' matches any text", { env: 'CHECKPOINT_PATH' }),
    )
    .addOption(checkpointDirectory())
    .addOption(flag('--verify', 'also read the whole files and verify their checksums'))
    .addOption(jsonFlag())
    .action(async (model: string | undefined, flags: InspectFlags) => {
      const { findModel } = await import('./models.js');
      const { inspect, formatInspection } = await import('../checkpoint/index.js');
      const { print } = await import('./output.js');
      const report = await inspect(await findModel(model, flags), { verify: flags.verify ?? false });
      print(flags.json, report, () => formatInspection(report));
    });
}
