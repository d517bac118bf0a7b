import { Command } from 'commander';
import { allowMixed, checkpointDirectory, flag, jsonFlag } from './flags';
import type { ConvertFlags } from './convert-run';

/** `torchbind convert`. */
export function convertCommand(): Command {
  return new Command('convert')
    .summary('write a model in another form')
    .description(
      'Writes a model in another form: single-file checkpoints as bundles, or with a target and --layout for the programs ' +
        'of another family, or with a target that ends in .gguf for llama.cpp. Existing files stay.',
    )
    .argument('[source]', 'path of a file or directory, or the name of a model in the checkpoint directory')
    .argument('[target]', 'file or directory to write; default: a bundle next to the file')
    .addOption(checkpointDirectory())
    .optionsGroup('Single-file checkpoints to bundles:')
    .addOption(flag('--model-name <name>', 'the model to convert'))
    .addOption(flag('--checkpoint <file>', 'the file in its directory (latest.pt, else final.pt)'))
    .addOption(flag('--all', 'all models of the checkpoint directory'))
    .addOption(flag('--dry-run', 'check the files and say what would be done'))
    .addOption(flag('--overwrite', 'replace bundles that are there'))
    .optionsGroup('To another form:')
    .addOption(flag('--layout <family>', 'mypt, ng-lecture, build-llm, nanogpt, mingpt, hf-gpt2, ...'))
    .addOption(
      flag('--dtype <dtype>', 'dtype of the weights; q8_0 in GGUF files', {
        choices: ['float32', 'float16', 'bfloat16', 'q8_0'],
      }),
    )
    .addOption(flag('--force', 'also where the family cannot hold all of the model'))
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
