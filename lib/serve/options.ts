import { checkArgument, checkFunction, checkOptions, isAtLeast, type PathLike, toPath } from '../errors';
import type { DeviceName } from '../tensor/schema-types';

/** What a server allows, so that no request can crash it or starve the others. */
export interface ServerLimits {
  /** Tokens of a prompt at most. Default: the model's context. */
  maxPromptTokens: number;
  /** Tokens that a request may ask for at most. Default 2048. */
  maxTokens: number;
  /** Sequences that are generated at the same time; further requests wait. Default 16. */
  maxConcurrent: number;
  /** Requests that may wait; further ones get status 429. Default 64. */
  maxQueue: number;
  /** Milliseconds that a request may wait; after that it gets status 503. Default 30,000. */
  queueTimeout: number;
  /** Milliseconds that a request may take once it has begun. Default 300,000. */
  requestTimeout: number;
  /** Sequences of one request, prompts times `n`, at most. Default 8. */
  maxSequences: number;
  /** Size of a request's body in bytes at most. Default 1 MiB. */
  maxBodyBytes: number;
  /** Connections at most; further ones are closed. Default 1000. */
  maxConnections: number;
  /** Models of `root` that are in memory at most, apart from those that were given. Default 4. */
  maxLoadedModels: number;
}

/** Options of `createServer`. */
export interface ServerOptions {
  /** Name of the model, where one is given. Default: the name of its file or directory, or `gpt`. */
  name?: string;
  /**
   * A directory of models, as of `CheckpointManager`. Requests can name each of its models, as `dante` or `dante@500`, and the page
   * `/runs` shows their curves. Default: none.
   */
  root?: PathLike;
  /** Requests need one of these keys: `Authorization: Bearer KEY`. Default: none. */
  apiKeys?: string | readonly string[];
  /** Names that the `Host` header may have apart from those of this machine, for a server behind a proxy. */
  allowedHosts?: readonly string[];
  /** Where models that the server opens go. Default: as `GPT.load`. */
  device?: DeviceName;
  /** Milliseconds between two looks at the manifests of the bundles that are served; 0 for none. Default 1000. */
  watchInterval?: number;
  /** Called after each request. */
  onResponse?: (response: ServedResponse) => void;
  /** Called with each unexpected error, of which the client learns nothing. Default: `process.emitWarning`. */
  onError?: (error: Error) => void;
  limits?: Partial<ServerLimits>;
}

/** A request that was answered. */
export interface ServedResponse {
  method: string;
  /** The path, without the query. */
  path: string;
  status: number;
  milliseconds: number;
}

export const DEFAULT_LIMITS: Readonly<ServerLimits> = {
  maxPromptTokens: Infinity,
  maxTokens: 2048,
  maxConcurrent: 16,
  maxQueue: 64,
  queueTimeout: 30_000,
  requestTimeout: 300_000,
  maxSequences: 8,
  maxBodyBytes: 2 ** 20,
  maxConnections: 1000,
  maxLoadedModels: 4,
};

/** Options with their defaults. */
export interface Settings {
  root: string | undefined;
  apiKeys: readonly string[];
  allowedHosts: readonly string[];
  device: DeviceName | undefined;
  watchInterval: number;
  onResponse: (response: ServedResponse) => void;
  onError: (error: Error) => void;
  limits: ServerLimits;
}

const NAMES = 'name root apiKeys allowedHosts device watchInterval onResponse onError limits'.split(' ');
const WHERE = 'createServer';

/** @throws ERR_TORCHBIND_INVALID_ARGUMENT, ERR_TORCHBIND_UNKNOWN_OPTION */
export function readSettings(options: ServerOptions): Settings {
  checkOptions(options, NAMES, WHERE);
  const { root, apiKeys = [], allowedHosts = [], device, watchInterval = 1000, onResponse, onError } = options;
  const keys = typeof apiKeys === 'string' ? [apiKeys] : apiKeys;
  checkArgument(isListOfTexts(keys), "a key or a list of keys for 'apiKeys', none empty", apiKeys, WHERE);
  checkArgument(isListOfTexts(allowedHosts), "a list of names for 'allowedHosts'", allowedHosts, WHERE);
  checkArgument(isAtLeast(watchInterval, 0), "milliseconds for 'watchInterval'", watchInterval, WHERE);
  for (const [name, fn] of Object.entries({ onResponse, onError }))
    if (fn !== undefined) checkFunction(fn, `${WHERE}: ${name}`);
  return {
    root: root === undefined ? undefined : toPath(root, `${WHERE}: root`),
    apiKeys: keys,
    allowedHosts: allowedHosts.map((host) => host.toLowerCase()),
    device,
    watchInterval,
    onResponse: onResponse ?? (() => undefined),
    onError: onError ?? ((error) => process.emitWarning(error.message, { code: 'TORCHBIND_SERVER' })),
    limits: readLimits(options.limits),
  };
}

function readLimits(given: Partial<ServerLimits> = {}): ServerLimits {
  checkOptions(given, Object.keys(DEFAULT_LIMITS), `${WHERE}: limits`);
  const limits = { ...DEFAULT_LIMITS };
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const least = name === 'maxQueue' ? 0 : 1;
    const isFine =
      (Number.isSafeInteger(value) && value >= least) || (name === 'maxPromptTokens' && value === Infinity);
    checkArgument(isFine, `an integer of at least ${least} for '${name}'`, value, WHERE);
    limits[name as keyof ServerLimits] = value;
  }
  return limits;
}

function isListOfTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every((item) => typeof item === 'string' && item !== '');
}
