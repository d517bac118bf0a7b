import { checkArgument, checkFunction, checkOptions, isAtLeast, type PathLike, toPath } from '../errors';
import type { DeviceName } from '../tensor/schema-types';

/** Limits of a server, so that no request can crash it or starve others. */
export interface ServerLimits {
  /** Maximum number of prompt tokens. Default: the model's context. */
  maxPromptTokens: number;
  /** Maximum number of new tokens that a request may ask for. Default 2048. */
  maxTokens: number;
  /** Maximum number of concurrent sequences; further requests wait. Default 16. */
  maxConcurrent: number;
  /** Maximum number of waiting requests; further ones get status 429. Default 64. */
  maxQueue: number;
  /** Maximum waiting time in milliseconds; then status 503. Default 30,000. */
  queueTimeout: number;
  /** Maximum running time of a request in milliseconds. Default 300,000. */
  requestTimeout: number;
  /** Maximum number of sequences of one request, prompts times `n`. Default 8. */
  maxSequences: number;
  /** Maximum size of a request body in bytes. Default 1 MiB. */
  maxBodyBytes: number;
  /** Maximum number of connections; further ones are closed. Default 1000. */
  maxConnections: number;
  /** Maximum number of models of `root` in memory, apart from the models that were passed. Default 4. */
  maxLoadedModels: number;
}

/** Options of `createServer`. */
export interface ServerOptions {
  /** Name of a single model. Default: the name of its file or directory, or `gpt`. */
  name?: string;
  /**
   * A directory of models, like the `root` of `CheckpointManager`. Requests can name each of its models, as `dante` or
   * `dante@500`, and the page `/runs` shows their curves. Default: none.
   */
  root?: PathLike;
  /** Requests need one of these keys: `Authorization: Bearer KEY`. Default: none. */
  apiKeys?: string | readonly string[];
  /** Additional names allowed in the `Host` header, for a server behind a proxy. */
  allowedHosts?: readonly string[];
  /** Device of models that the server loads. Default: as `GPT.load`. */
  device?: DeviceName;
  /** Milliseconds between two checks of the served bundles' manifests; 0 turns them off. Default 1000. */
  watchInterval?: number;
  /** Called after each request. */
  onResponse?: (response: ServedResponse) => void;
  /** Called with each unexpected error; the client gets no details. Default: `process.emitWarning`. */
  onError?: (error: Error) => void;
  limits?: Partial<ServerLimits>;
}

/** An answered request. */
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
