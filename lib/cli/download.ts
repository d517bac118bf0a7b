import { Command } from 'commander';
import { jsonFlag } from './flags';

/** `torchbind download`. */
export function downloadCommand(): Command {
  return new Command('download')
    .summary('fetch a model of the Hugging Face hub into the cache')
    .description(
      "Fetches what a model needs into the cache that Python's huggingface_hub uses, and prints the directory. A download that was cut " +
        'short is gone on with. HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_ENDPOINT and HF_HUB_OFFLINE are read.',
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
