import { Command } from 'commander';
import type { ExportFlags } from './export-run';
import { checkpointDirectory, count, flag, jsonFlag } from './flags';

/** `torchbind export`. */
export function exportCommand(): Command {
  return new Command('export')
    .summary('write a release package for others to run')
    .description(
      'Writes a release package: weights, config, tokenizer, a model card and checksums, without what only training needs. ' +
        'A target that ends in .zip or .tar.gz is an archive.',
    )
    .argument('<model>', 'path of a file or directory, or the name of a model in the checkpoint directory')
    .argument('<target>', 'directory, .zip or .tar.gz to write')
    .addOption(checkpointDirectory())
    .optionsGroup('Form:')
    .addOption(flag('--form <form>', 'form of the package', { choices: ['torchbind', 'huggingface'] }))
    .addOption(
      flag('--dtype <dtype>', 'dtype of the weights', { choices: ['float32', 'bfloat16', 'float16', 'int8', 'int4'] }),
    )
    .addOption(flag('--group-size <n>', 'with int4: columns that share a scale (32)', { parse: count(32) }))
    .addOption(flag('--weights <format>', 'file format of the weights', { choices: ['safetensors', 'pt'] }))
    .addOption(flag('--force', 'also where the family cannot hold all of the model'))
    .addOption(flag('--overwrite', 'replace an existing release package'))
    .addOption(
      flag(
        '--compress',
        "instead of a package: the checkpoint's own form in float16, without the optimizer; a .pt file",
      ),
    )
    .optionsGroup('Model card:')
    .addOption(flag('--name <name>', "the model's name (that of the target)"))
    .addOption(flag('--description <text>', 'a few words on it'))
    .addOption(flag('--license <id>', 'its license, such as mit'))
    .addOption(flag('--language <code>', 'its language, such as en'))
    .addOption(flag('--data <name>', 'the name of the data that it was trained with'))
    .addOption(flag('--metrics <dir>', "directory of the run's metrics.jsonl (the checkpoint's)"))
    .addOption(flag('--held-text <file>', 'text to measure the perplexity with, before and after'))
    .addOption(jsonFlag())
    .addHelpText('after', examples)
    .action(async (model: string, target: string, flags: ExportFlags) => {
      const { runExport } = await import('./export-run.js');
      await runExport(model, target, flags);
    });
}

const examples = `
Examples:
  torchbind export dante dante.zip --license mit --data "Divina Commedia"
  torchbind export dante dante-int8 --dtype int8 --held-text held.txt
  torchbind export out/ckpt.pt dante-hf --form huggingface
  torchbind export files/final.pt small.pt --compress
`;
