import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import path from 'node:path';
import { TorchBindError } from '../errors';

/** What the environment says of the hub, in the variables that Python's huggingface_hub reads. */

export interface HubSettings {
  /** Without a slash at the end. */
  endpoint: string;
  cache: string;
  isOffline: boolean;
  /** Undefined for none. Never to be shown. */
  token: string | undefined;
}

const isTrue = (value: string | undefined): boolean => /^(1|on|yes|true)$/i.test(value ?? '');

function expand(value: string): string {
  return path.resolve(value.replace(/^~(?=$|[/\\])/, homedir()));
}

function home(env: NodeJS.ProcessEnv): string {
  if (env.HF_HOME) return expand(env.HF_HOME);
  return path.join(env.XDG_CACHE_HOME ? expand(env.XDG_CACHE_HOME) : path.join(homedir(), '.cache'), 'huggingface');
}

/** @throws ERR_TORCHBIND_INVALID_ARGUMENT for an HF_ENDPOINT that is not an address */
export async function hubSettings(env = process.env): Promise<HubSettings> {
  const cache = env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE;
  return {
    endpoint: endpointOf(env.HF_ENDPOINT || 'https://huggingface.co'),
    cache: cache ? expand(cache) : path.join(home(env), 'hub'),
    isOffline: isTrue(env.HF_HUB_OFFLINE || env.TRANSFORMERS_OFFLINE),
    token: await tokenOf(env),
  };
}

function endpointOf(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  // The value is not shown: an address may hold a password.
  const isAddress = url !== undefined && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '';
  if (isAddress) return text.replace(/\/+$/, '');
  throw new TorchBindError(
    'HF_ENDPOINT: expected an address that begins with https:// or http://, without a user and a password.',
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

async function tokenOf(env: NodeJS.ProcessEnv): Promise<string | undefined> {
  const given = (env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN)?.trim();
  if (given) return given;
  if (isTrue(env.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return undefined;
  const file = env.HF_TOKEN_PATH ? expand(env.HF_TOKEN_PATH) : path.join(home(env), 'token');
  return (await readFile(file, 'utf8').catch(() => '')).trim() || undefined;
}
