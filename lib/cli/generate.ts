import { Command } from 'commander';
import { checkpointDirectory, count, device, flag, jsonFlag, number, toggle } from './flags';
import type { GenerateFlags } from './generate-run';

/** `torchbind generate`. */
export function generateCommand(): Command {
  return new Command('generate')
    .summary('write text with a model')
    .description('Writes text with a model: a bundle, a single-file checkpoint, nanoGPT, Hugging Face GPT-2, ...')
    .argument(
      '[model]',
      "path of its file or directory, or its name in the checkpoint directory ('dante', 'dante@500')",
    )
    .optionsGroup('Which model:')
    .addOption(flag('--model-name <name>', 'name of the model in the checkpoint directory'))
    .addOption(flag('--legacy-checkpoint <file>', 'a single file in its directory, such as final.pt'))
    .addOption(flag('--step <n>', 'the bundle that was kept of this step', { parse: count(0) }))
    .addOption(flag('--checkpoint-path <path>', "as the argument; '*' matches any text", { env: 'CHECKPOINT_PATH' }))
    .addOption(checkpointDirectory())
    .addOption(flag('--tokenizer <path>', 'where its tokenizer is, if it is not next to it'))
    .addOption(
      flag('--input-file <file>', 'of a file without a tokenizer: the text whose characters are its tokens', {
        env: 'TRAINING_DATA_SOURCE',
      }),
    )
    .addOption(device())
    .optionsGroup('The text:')
    .addOption(flag('--prompt <text>', 'text to continue', { env: 'PROMPT' }).default('', 'none'))
    .addOption(
      flag('--max-new-tokens <n>', 'tokens to write at most', { env: 'MAX_NEW_TOKENS', parse: count(0) }).default(300),
    )
    .addOption(
      flag('--temperature <t>', 'below 1 likelier, above 1 more varied text', { env: 'TEMPERATURE', parse: number(0) }),
    )
    .addOption(flag('--top-k <k>', 'choose among the k likeliest tokens', { env: 'TOP_K', parse: count(1) }))
    .addOption(flag('--top-p <p>', 'choose among tokens of this probability', { env: 'TOP_P', parse: number(0, 1) }))
    .addOption(
      flag('--min-p <p>', 'drop tokens less than this times as likely as the likeliest', { parse: number(0, 1) }),
    )
    .addOption(flag('--greedy', 'always take the likeliest token'))
    .addOption(flag('--repetition-penalty <x>', 'above 1 repeat less', { parse: number(0) }))
    .addOption(flag('--end-of-text', "end at the tokenizer's end of text"))
    .addOption(flag('--seed <n>', 'the same seed writes the same text', { parse: count(0) }))
    .addOption(flag('--stop <text...>', 'end before one of these texts'))
    .optionsGroup('Output:')
    .addOption(toggle('--save-output', 'write the text to a file too', 'ENABLE_OUTPUT_TO_FILE'))
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
