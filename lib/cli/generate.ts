import { Command } from 'commander';
import { checkpointDirectory, count, device, flag, jsonFlag, number, toggle } from './flags';
import type { GenerateFlags } from './generate-run';

/** `torchbind generate`. */
export function generateCommand(): Command {
  return new Command('generate')
    .summary('generate text with a model')
    .description(
      'Generates text with a model, in any format that GPT.load opens: bundles, single files, nanoGPT, Hugging Face, ...',
    )
    .argument(
      '[model]',
      "path of a file or directory, or name of a model in the checkpoint directory ('dante', or step 500 as 'dante@500')",
    )
    .optionsGroup('Which model:')
    .addOption(flag('--model-name <name>', 'name of the model in the checkpoint directory'))
    .addOption(flag('--legacy-checkpoint <file>', "single file in the model's directory to open, such as final.pt"))
    .addOption(flag('--step <n>', 'open the kept bundle of this step', { parse: count(0) }))
    .addOption(
      flag('--checkpoint-path <path>', "path of a file or directory; '*' matches any text", { env: 'CHECKPOINT_PATH' }),
    )
    .addOption(checkpointDirectory())
    .addOption(flag('--tokenizer <path>', "file of the tokenizer, if it is not in the model's directory"))
    .addOption(
      flag('--input-file <file>', 'for a model without a tokenizer: text file whose characters are the tokens', {
        env: 'TRAINING_DATA_SOURCE',
      }),
    )
    .addOption(device())
    .optionsGroup('Generation:')
    .addOption(flag('--prompt <text>', 'text to continue', { env: 'PROMPT' }).default('', 'none'))
    .addOption(
      flag('--max-new-tokens <n>', 'maximum number of new tokens', { env: 'MAX_NEW_TOKENS', parse: count(0) }).default(
        300,
      ),
    )
    .addOption(
      flag('--temperature <t>', 'divides the logits: above 1 the text varies more, below 1 less; 0 is --greedy', {
        env: 'TEMPERATURE',
        parse: number(0),
      }),
    )
    .addOption(flag('--top-k <k>', 'sample from the k most likely tokens', { env: 'TOP_K', parse: count(1) }))
    .addOption(
      flag('--top-p <p>', 'sample from the most likely tokens whose total probability is p', {
        env: 'TOP_P',
        parse: number(0, 1),
      }),
    )
    .addOption(
      flag('--min-p <p>', 'drop tokens whose probability is below p times that of the most likely token', {
        parse: number(0, 1),
      }),
    )
    .addOption(flag('--greedy', 'always take the most likely token'))
    .addOption(flag('--repetition-penalty <x>', 'values above 1 make repetitions less likely', { parse: number(0) }))
    .addOption(flag('--end-of-text', 'stop at an end-of-text token'))
    .addOption(flag('--seed <n>', 'the same seed generates the same text', { parse: count(0) }))
    .addOption(flag('--stop <text...>', 'stop before any of these texts'))
    .optionsGroup('Output:')
    .addOption(toggle('--save-output', 'also write the text to a file', 'ENABLE_OUTPUT_TO_FILE'))
    .addOption(flag('--output-dir <dir>', 'directory of that file', { env: 'OUTPUT_DIR' }).default('outputs'))
    .addOption(jsonFlag())
    .addHelpText('after', examples)
    .action(async (model: string | undefined, flags: GenerateFlags) => {
      const { runGenerate } = await import('./generate-run.js');
      await runGenerate(model, flags);
    });
}

const examples = `
Examples:
  torchbind generate dante --prompt "Nel mezzo" --max-new-tokens 200
  torchbind generate --model-name dante --legacy-checkpoint final.pt
  torchbind generate out-shakespeare-char/ckpt.pt --temperature 0.8 --seed 1
  CHECKPOINT_PATH='checkpoints/checkpoint_gpt2_*.pt' PROMPT="Dear" torchbind generate
`;
