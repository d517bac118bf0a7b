import { Command } from 'commander';
import type { EvaluateFlags } from './evaluate-run';
import { checkpointDirectory, count, device, flag, jsonFlag } from './flags';

/** `torchbind evaluate`. */
export function evaluateCommand(): Command {
  return new Command('evaluate')
    .summary('measure how well a model predicts a text')
    .description('Measures how well a model predicts a text: loss, perplexity, bits for each byte.')
    .argument(
      '[model]',
      "path of a file or directory, or the name of a model in the checkpoint directory ('dante@500')",
    )
    .addOption(flag('--model-name <name>', 'name of the model in the checkpoint directory'))
    .addOption(flag('--step <n>', 'the bundle that was kept of this step', { parse: count(0) }))
    .addOption(flag('--checkpoint-path <path>', "as the argument; '*' matches any text", { env: 'CHECKPOINT_PATH' }))
    .addOption(checkpointDirectory())
    .addOption(device())
    .addOption(
      flag('--input-file <file>', "the text, in UTF-8, or a .bin file of tokens as nanoGPT's; - is stdin", {
        env: 'TRAINING_DATA_SOURCE',
      }),
    )
    .addOption(
      flag('--window-size <n>', 'tokens that the model sees at a time (default: its context)', { parse: count(1) }),
    )
    .addOption(
      flag('--stride <n>', 'tokens between windows: fewer give each token more context (default: --window-size)', {
        parse: count(1),
      }),
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
