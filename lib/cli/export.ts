import { Command } from 'commander';
import type { ExportFlags } from './export-run';
import { checkpointDirectory, count, flag, jsonFlag } from './flags';

/** `torchbind export`. */
export function exportCommand(): Command {
  return new Command('export')
    .summary('write a release package for inference')
    .description(
      'Writes a release package: weights, config, tokenizer, model card and checksums, without training state. If the target ends ' +
        'in .zip or .tar.gz, the package is an archive.',
    )
    .argument('<model>', 'path of a file or directory, or name of a model in the checkpoint directory')
    .argument('<target>', 'directory, .zip or .tar.gz to write')
    .addOption(checkpointDirectory())
    .optionsGroup('Package:')
    .addOption(
      flag('--form <form>', 'who can open the package: torchbind, or transformers too', {
        choices: ['torchbind', 'huggingface'],
      }),
    )
    .addOption(
      flag('--dtype <dtype>', 'dtype of the weights', { choices: ['float32', 'bfloat16', 'float16', 'int8', 'int4'] }),
    )
    .addOption(flag('--group-size <n>', 'with int4: number of columns that share a scale (32)', { parse: count(32) }))
    .addOption(flag('--weights <format>', 'file format of the weights', { choices: ['safetensors', 'pt'] }))
    .addOption(flag('--force', 'export even if the target format cannot hold the model exactly'))
    .addOption(flag('--overwrite', 'replace an existing release package'))
    .addOption(
      flag(
        '--compress',
        'write a .pt file instead of a package: the checkpoint in its own format, in float16, without the optimizer',
      ),
    )
    .optionsGroup('Model card:')
    .addOption(flag('--name <name>', 'name of the model (default: name of the target)'))
    .addOption(flag('--description <text>', 'short description of the model'))
    .addOption(flag('--license <id>', 'license of the model, such as mit'))
    .addOption(flag('--language <code>', 'language of the model, such as en'))
    .addOption(flag('--data <name>', 'name of the training data'))
    .addOption(flag('--metrics <dir>', "directory that holds metrics.jsonl (default: the checkpoint's)"))
    .addOption(flag('--held-text <file>', 'text file on which to measure the perplexity before and after the export'))
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
