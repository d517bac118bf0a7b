import { Command } from 'commander';
import { checkpointDirectory, count, device, flag, number } from './flags';
import type { ServeFlags } from './serve-run';

/** `torchbind serve`. */
export function serveCommand(): Command {
  return new Command('serve')
    .summary("answer requests of OpenAI's API")
    .description(
      "Answers requests of OpenAI's API with models: /v1/completions and /v1/chat/completions. The pages / and /runs try models " +
        'and show training runs. Needs fastify and prom-client: npm install fastify prom-client',
    )
    .argument(
      '[models...]',
      "path of a model's file or directory, or its name in the checkpoint directory; the first answers requests that name none",
    )
    .addOption(checkpointDirectory())
    .addOption(device())
    .optionsGroup('Where and for whom:')
    .addOption(flag('--host <host>', 'address to listen on; 0.0.0.0 is for the network').default('127.0.0.1'))
    .addOption(
      flag('--port <n>', 'port to listen on; 0 takes a free one', { env: 'PORT', parse: count(0) }).default(8000),
    )
    .addOption(flag('--api-key <key...>', 'keys of which requests need one', { env: 'TORCHBIND_API_KEY' }))
    .addOption(flag('--allowed-host <name...>', 'further names that the server answers to, as behind a proxy'))
    .optionsGroup('Limits:')
    .addOption(
      flag('--max-prompt-tokens <n>', "tokens of a prompt; by default the model's context", { parse: count(1) }),
    )
    .addOption(flag('--max-tokens <n>', 'tokens that a request may ask for', { parse: count(1) }).default(2048))
    .addOption(
      flag('--max-concurrent <n>', 'sequences that are generated at the same time', { parse: count(1) }).default(16),
    )
    .addOption(flag('--max-queue <n>', 'requests that may wait', { parse: count(0) }).default(64))
    .addOption(
      flag('--queue-timeout <seconds>', 'how long a request may wait', { parse: number(0.001, 1e6) }).default(30),
    )
    .addOption(
      flag('--request-timeout <seconds>', 'how long a request may take', { parse: number(0.001, 1e6) }).default(300),
    )
    .optionsGroup('Output:')
    .addOption(flag('--log', 'write a line for each request'))
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
