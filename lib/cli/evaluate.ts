import { Command } from 'commander';
import type { EvaluateFlags } from './evaluate-run';
import { checkpointDirectory, count, device, flag, jsonFlag } from './flags';

/** `torchbind evaluate`. */
export function evaluateCommand(): Command {
  return new Command('evaluate')
    .summary('measure how well a model predicts a text')
    .description('Measures how well a model predicts a text: loss, perplexity and bits per byte.')
    .argument(
      '[model]',
      "path of a file or directory, or name of a model in the checkpoint directory ('dante', or step 500 as 'dante@500')",
    )
    .addOption(flag('--model-name <name>', 'name of the model in the checkpoint directory'))
    .addOption(flag('--step <n>', 'open the kept bundle of this step', { parse: count(0) }))
    .addOption(
      flag('--checkpoint-path <path>', "path of a file or directory; '*' matches any text", { env: 'CHECKPOINT_PATH' }),
    )
    .addOption(checkpointDirectory())
    .addOption(device())
    .addOption(
      flag('--input-file <file>', "text file (UTF-8; - reads stdin), or a .bin file of token ids in nanoGPT's format", {
        env: 'TRAINING_DATA_SOURCE',
      }),
    )
    .addOption(
      flag('--window-size <n>', 'tokens that the model sees at a time (default: its context length)', {
        parse: count(1),
      }),
    )
    .addOption(
      flag(
        '--stride <n>',
        'tokens from the start of a window to the start of the next; fewer give each token more context (default: --window-size)',
        {
          parse: count(1),
        },
      ),
    )
    .addOption(flag('--batch-size <n>', 'windows in one forward pass (default: 4)', { parse: count(1) }))
    .addOption(jsonFlag())
    .addHelpText('after', examples)
    .action(async (model: string | undefined, flags: EvaluateFlags) => {
      const { runEvaluate } = await import('./evaluate-run.js');
      await runEvaluate(model, flags);
    });
}

const examples = `
Examples:
  torchbind evaluate dante --input-file held-out.txt
  torchbind evaluate hf:openai-community/gpt2 --input-file held-out.txt --stride 512 --json
`;
