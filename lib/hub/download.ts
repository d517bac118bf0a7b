import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { checkOptions, checkWatchers, TorchBindError } from '../errors';
import { RepoCache } from './cache';
import { HubUnreachable } from './errors';
import { fetchBlob, type HubFile } from './fetch-blob';
import { isIndex, neededNames, shardsIn } from './needed';
import { type HubReference, isCommit, parseReference } from './reference';
import { ask, checkedFetch } from './request';
import { type HubSettings, hubSettings } from './settings';

export { isHubReference } from './reference';

/** Options of `download`. */
export interface DownloadOptions {
  /** Called as bytes arrive; cached files count immediately. */
  onProgress?: (progress: { bytes: number; totalBytes: number }) => void;
  /** Abandons the download. What has come stays, and the next call continues from there. */
  signal?: AbortSignal;
}

/**
 * Brings a model of the hub into the cache that Python's huggingface_hub uses, unless it is there: the weights (safetensors before
 * other files), config and tokenizer, and nothing else.
 *
 * A commit that is in the cache is not asked for. A branch is asked for once; without a connection, or with HF_HUB_OFFLINE, the
 * commit that it had last serves.
 *
 * @param reference `hf:owner/name`, or with a branch, tag or commit `hf:owner/name@revision`
 * @returns the directory of the snapshot
 * @throws ERR_TORCHBIND_HUB, ERR_TORCHBIND_HUB_ACCESS for private and gated models, ERR_TORCHBIND_HUB_OFFLINE for what is not in the
 *   cache, ERR_TORCHBIND_HUB_DAMAGED for bytes without their checksum
 */
export async function download(reference: string, options: DownloadOptions = {}): Promise<string> {
  checkOptions(options, ['onProgress', 'signal'], 'download');
  checkWatchers(options, 'download');
  const model = parseReference(reference, 'download');
  const settings = await hubSettings();
  const cache = new RepoCache(settings.cache, model);
  options.signal?.throwIfAborted();
  if (isCommit(model.revision) || settings.isOffline) {
    const cached = await cachedSnapshot(cache, model);
    if (cached !== undefined) return cached;
    if (settings.isOffline) throw notCached(reference, settings);
  }
  try {
    return await fetchSnapshot(model, settings, cache, options);
  } catch (error) {
    const cached = error instanceof HubUnreachable ? await cachedSnapshot(cache, model) : undefined;
    if (cached === undefined) throw error;
    process.emitWarning(`${(error as Error).message} The files in the cache serve.`, { code: 'TORCHBIND_HUB' });
    return cached;
  }
}

function notCached(reference: string, { cache }: HubSettings): TorchBindError {
  return new TorchBindError(
    `${reference} is not in the cache (${cache}), and HF_HUB_OFFLINE forbids to fetch it. Unset that, or fetch the model before: ` +
      `torchbind download ${reference}.`,
    'ERR_TORCHBIND_HUB_OFFLINE',
  );
}

/** The directory of a snapshot with all that the model needs; undefined where something is missing. */
async function cachedSnapshot(cache: RepoCache, { revision }: HubReference): Promise<string | undefined> {
  const commit = await cache.commitOf(revision);
  if (commit === undefined) return undefined;
  const names = await cache.names(commit);
  const needed = neededNames(names);
  if (needed === undefined) return undefined;
  const directory = cache.snapshot(commit);
  // What was fetched last is noted first: a download that was cut short has no config, or not all shards.
  if (!isComplete(names, needed.weights)) return undefined;
  if (!isIndex(needed.weights)) return directory;
  const shards = shardsIn(await readJson(path.join(directory, needed.weights)));
  return shards.length > 0 && shards.every((name) => names.has(name)) ? directory : undefined;
}

/** Weights are downloaded after the small files, so their presence proves that the small files exist too. */
function isComplete(names: ReadonlySet<string>, weights: string): boolean {
  return weights === 'ckpt.pt' || names.has('config.json') || names.has('adapter_config.json');
}

async function fetchSnapshot(
  model: HubReference,
  settings: HubSettings,
  cache: RepoCache,
  { onProgress, signal }: DownloadOptions,
): Promise<string> {
  const { commit, files } = await listRepository(model, settings, signal);
  const needed = neededNames(new Set(files.keys()));
  if (needed === undefined) throw withoutWeights(model, files);
  const known = (names: readonly string[]): HubFile[] =>
    names.map((name) => files.get(name)).filter((file) => file !== undefined);
  const progress = progressOf(onProgress);
  const fetchAll = async (wanted: readonly HubFile[]): Promise<void> => {
    progress.expect(wanted.reduce((sum, { size }) => sum + size, 0));
    for (const file of wanted) {
      const url = `${settings.endpoint}/${model.repo}/resolve/${commit}/${encodeURIComponent(file.path)}`;
      await fetchBlob(cache, file, {
        url,
        headers: settings.token === undefined ? {} : { authorization: `Bearer ${settings.token}` },
        fetch: checkedFetch(settings, model, signal),
        onBytes: progress.add,
        signal,
      });
      await cache.link(file.etag, commit, file.path);
    }
  };
  await fetchAll(known(needed.companions));
  await fetchAll(known([needed.weights]));
  if (isIndex(needed.weights)) {
    const shards = shardsIn(await readJson(path.join(cache.snapshot(commit), needed.weights)));
    const missing = shards.find((name) => !files.has(name));
    if (shards.length === 0 || missing !== undefined) {
      throw new TorchBindError(
        `hf:${model.repo}: ${needed.weights} names ${missing ?? 'no files'}, which the repository does not have.`,
        'ERR_TORCHBIND_HUB',
      );
    }
    await fetchAll(known(shards));
  }
  await cache.noteCommit(model.revision, commit);
  return cache.snapshot(commit);
}

/** The commit of a revision, and the files at its top. */
async function listRepository(
  model: HubReference,
  settings: HubSettings,
  signal: AbortSignal | undefined,
): Promise<{ commit: string; files: Map<string, HubFile> }> {
  const { listFiles, modelInfo } = await import('@huggingface/hub');
  const { token } = settings;
  const common = {
    hubUrl: settings.endpoint,
    fetch: checkedFetch(settings, model, signal),
    ...(token && { accessToken: token }),
  };
  return ask(model, token !== undefined, async () => {
    const { sha } = await modelInfo({
      name: model.repo,
      revision: model.revision,
      additionalFields: ['sha'],
      ...common,
    });
    if (!isCommit(sha)) throw new Error('no commit');
    const files = new Map<string, HubFile>();
    for await (const entry of listFiles({ repo: { type: 'model', name: model.repo }, revision: sha, ...common })) {
      const etag = entry.lfs?.oid ?? entry.oid ?? '';
      const isKnown = entry.type === 'file' && Number.isSafeInteger(entry.size) && entry.size >= 0;
      if (isKnown && /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(etag) && !/[/\\]/.test(entry.path))
        files.set(entry.path, { path: entry.path, size: entry.size, etag });
    }
    return { commit: sha, files };
  });
}

function withoutWeights({ repo, revision }: HubReference, files: ReadonlyMap<string, HubFile>): TorchBindError {
  const names = [...files.keys()].slice(0, 8).join(', ');
  return new TorchBindError(
    `hf:${repo}@${revision} has no weights that torchbind reads (model.safetensors, pytorch_model.bin, model.pt, ...). ` +
      `It has ${names || 'no files'}.`,
    'ERR_TORCHBIND_HUB',
  );
}

async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as unknown;
  } catch {
    return undefined; // whoever reads the weights says what is wrong
  }
}

function progressOf(onProgress: DownloadOptions['onProgress']): {
  expect: (count: number) => void;
  add: (count: number) => void;
} {
  let [bytes, totalBytes] = [0, 0];
  return {
    expect: (count) => void (totalBytes += count),
    add: (count) => {
      bytes += count;
      onProgress?.({ bytes, totalBytes });
    },
  };
}
