import { once } from 'node:events';
import path from 'node:path';
import { createServer, type ServerOptions } from '../serve';
import { deviceOption } from './device';
import { usageError } from './errors';
import { findModel } from './models';
import { note, printLine } from './output';
import type { DeviceName } from '../tensor/schema-types';

export interface ServeFlags {
  checkpointDir: string;
  device?: DeviceName;
  host: string;
  port: number;
  apiKey?: string | string[];
  allowedHost?: string[];
  maxPromptTokens?: number;
  maxTokens: number;
  maxConcurrent: number;
  maxQueue: number;
  queueTimeout: number;
  requestTimeout: number;
  log?: boolean;
}

/** Serves models until Ctrl-C, which lets the requests that have begun end; a second one cuts them off. */
export async function runServe(references: readonly string[], flags: ServeFlags): Promise<void> {
  const models: Record<string, string> = {};
  for (const reference of references) {
    const file = await findModel(reference, flags);
    const { name } = path.parse(reference);
    if (Object.hasOwn(models, name))
      throw usageError(`Two models have the name '${name}': ${models[name]} and ${file}.`);
    models[name] = file;
  }
  const { host, port, checkpointDir } = flags;
  const server = await createServer(references.length === 0 ? null : models, optionsOf(flags));
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  try {
    const address = await server.listen({ host, port });
    const names = references.length === 0 ? `the models in ${checkpointDir}` : Object.keys(models).join(', ');
    printLine(`serving ${names} on ${address}`);
    if (!stop.signal.aborted) await once(stop.signal, 'abort');
    note('closing: waiting for the requests that have begun');
    process.once('SIGINT', () => process.exit(130));
  } finally {
    await server.close();
  }
}

function optionsOf(flags: ServeFlags): ServerOptions {
  const { maxPromptTokens, maxTokens, maxConcurrent, maxQueue, queueTimeout, requestTimeout } = flags;
  const { checkpointDir, apiKey, allowedHost, log } = flags;
  return {
    root: checkpointDir,
    ...deviceOption(flags.device),
    ...(apiKey === undefined ? {} : { apiKeys: apiKey }),
    ...(allowedHost === undefined ? {} : { allowedHosts: allowedHost }),
    ...(log === true
      ? {
          onResponse: ({ method, path, status, milliseconds }) =>
            note(`${method} ${path} ${status} ${milliseconds.toFixed(1)} ms`),
        }
      : {}),
    onError: (error) => note(`error: ${error.message}`),
    limits: {
      ...(maxPromptTokens === undefined ? {} : { maxPromptTokens }),
      maxTokens,
      maxConcurrent,
      maxQueue,
      queueTimeout: Math.ceil(queueTimeout * 1000),
      requestTimeout: Math.ceil(requestTimeout * 1000),
    },
  };
}
