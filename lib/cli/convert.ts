import { Command } from 'commander';
import { allowMixed, checkpointDirectory, flag, jsonFlag } from './flags';
import type { ConvertFlags } from './convert-run';

/** `torchbind convert`. */
export function convertCommand(): Command {
  return new Command('convert')
    .summary('write a model in another format')
    .description(
      'Without a target, converts single-file checkpoints to bundles. With a target, writes the model there: in its own format, in the ' +
        'format of another program with --layout, or for llama.cpp if the target ends in .gguf. The source does not change, and an existing target only with --overwrite.',
    )
    .argument('[source]', 'path of a file or directory, or name of a model in the checkpoint directory')
    .argument('[target]', 'file or directory to write (default: a bundle in the directory of the source)')
    .addOption(checkpointDirectory())
    .optionsGroup('Single-file checkpoints to bundles:')
    .addOption(flag('--model-name <name>', 'name of the model in the checkpoint directory'))
    .addOption(flag('--checkpoint <file>', "file in the model's directory (latest.pt, else final.pt)"))
    .addOption(flag('--all', 'convert all models in the checkpoint directory'))
    .addOption(flag('--dry-run', 'check the files and print what would be done, without writing'))
    .addOption(flag('--overwrite', 'replace an existing bundle or target'))
    .optionsGroup('With a target:')
    .addOption(flag('--layout <family>', 'format to write: mypt, ng-lecture, build-llm, nanogpt, mingpt, hf-gpt2, ...'))
    .addOption(
      flag('--dtype <dtype>', 'dtype of the weights; q8_0 only in GGUF files', {
        choices: ['float32', 'float16', 'bfloat16', 'q8_0'],
      }),
    )
    .addOption(flag('--force', 'convert even if the target format cannot hold the model exactly'))
    .addOption(allowMixed())
    .addOption(jsonFlag())
    .addHelpText('after', examples)
    .action(async (source: string | undefined, target: string | undefined, flags: ConvertFlags) => {
      const { runConvert } = await import('./convert-run.js');
      await runConvert(source, target, flags);
    });
}

const examples = `
Examples:
  torchbind convert --model-name dante
  torchbind convert --all --dry-run
  torchbind convert checkpoints/checkpoint_bigram_letters_step002000_11102025_231500.pt
  torchbind convert out/ckpt.pt exported --layout hf-gpt2
  torchbind convert models/llama llama.gguf --dtype q8_0
`;
