import { Command } from 'commander';
import { jsonFlag } from './flags';

/** `torchbind download`. */
export function downloadCommand(): Command {
  return new Command('download')
    .summary('download a model from the Hugging Face hub')
    .description(
      "Downloads weights, config and tokenizer of a model into the cache of Python's huggingface_hub, and prints the directory. An " +
        'interrupted download resumes. Environment variables: HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_HUB_OFFLINE.',
    )
    .argument('<model>', 'hf:owner/name, or hf:owner/name@revision')
    .addOption(jsonFlag())
    .action(async (model: string, flags: { json?: boolean }) => {
      const { downloadShowing } = await import('../hub/show-progress.js');
      const { print } = await import('./output.js');
      const directory = await downloadShowing(model);
      print(flags.json, { model, directory }, directory);
    });
}
