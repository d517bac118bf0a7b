import { Command } from 'commander';
import { checkpointDirectory, count, device, flag, number } from './flags';
import type { ServeFlags } from './serve-run';

/** `torchbind serve`. */
export function serveCommand(): Command {
  return new Command('serve')
    .summary("serve models over OpenAI's API")
    .description(
      "Serves models over OpenAI's API: /v1/completions and /v1/chat/completions. The page / tries models, and the page /runs shows " +
        'training runs. Needs two packages: npm install fastify prom-client',
    )
    .argument(
      '[models...]',
      'paths of files or directories, or names of models in the checkpoint directory; requests without a model get the first',
    )
    .addOption(checkpointDirectory())
    .addOption(device())
    .optionsGroup('Network:')
    .addOption(
      flag('--host <host>', 'address to listen on; 0.0.0.0 accepts connections from other machines').default(
        '127.0.0.1',
      ),
    )
    .addOption(
      flag('--port <n>', 'port to listen on; 0 takes any free port', { env: 'PORT', parse: count(0) }).default(8000),
    )
    .addOption(flag('--api-key <key...>', 'API keys; requests need one of them', { env: 'TORCHBIND_API_KEY' }))
    .addOption(
      flag('--allowed-host <name...>', 'additional host names that requests may use, for example that of a proxy'),
    )
    .optionsGroup('Limits:')
    .addOption(
      flag('--max-prompt-tokens <n>', "maximum number of prompt tokens (default: the model's context length)", {
        parse: count(1),
      }),
    )
    .addOption(flag('--max-tokens <n>', 'maximum number of new tokens', { parse: count(1) }).default(2048))
    .addOption(
      flag('--max-concurrent <n>', 'maximum number of sequences that are generated at the same time', {
        parse: count(1),
      }).default(16),
    )
    .addOption(flag('--max-queue <n>', 'maximum number of waiting requests', { parse: count(0) }).default(64))
    .addOption(
      flag('--queue-timeout <seconds>', 'maximum waiting time of a request', { parse: number(0.001, 1e6) }).default(30),
    )
    .addOption(
      flag('--request-timeout <seconds>', 'maximum running time of a request', { parse: number(0.001, 1e6) }).default(
        300,
      ),
    )
    .optionsGroup('Output:')
    .addOption(flag('--log', 'print a line for each request'))
    .addHelpText('after', examples)
    .action(async (models: string[], flags: ServeFlags) => {
      const { runServe } = await import('./serve-run.js');
      await runServe(models, flags);
    });
}

const examples = `
Examples:
  torchbind serve dante
  torchbind serve dante@500 dante --port 8080
  TORCHBIND_API_KEY=secret torchbind serve dante --host 0.0.0.0
  curl -N localhost:8000/v1/completions -H 'content-type: application/json' -d '{"prompt": "Nel mezzo", "stream": true}'
`;
