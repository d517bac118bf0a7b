import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { checkArgument, checkFlags, checkOptions, checkWatchers, TorchBindError } from '../errors';
import { type HubReference, parseReference } from './reference';
import { ask, checkedFetch, hubFetch } from './request';
import { type HubSettings, hubSettings } from './settings';

/** Options of `gpt.push`. */
export interface PushOptions {
  /** First line of the commit. Default `Upload model with torchbind`. */
  message?: string;
  /** Make a new repository private. Default false. */
  private?: boolean;
  /** Abandons the upload. Nothing changes in the repository unless all has arrived. */
  signal?: AbortSignal;
}

/** What was pushed. */
export interface PushResult {
  repo: string;
  branch: string;
  /** The commit's 40 digits; null where the repository had all of it. */
  commit: string | null;
}

/** Uploads the files of a directory in one commit. */
type Upload = (directory: string) => Promise<PushResult>;

/**
 * Checks that an upload may be made, before there is anything to upload. The repository is made if it is not there.
 *
 * @throws ERR_TORCHBIND_HUB_ACCESS without a token that may write there; ERR_TORCHBIND_HUB, ERR_TORCHBIND_HUB_OFFLINE
 */
export async function preparePush(reference: string, options: PushOptions): Promise<Upload> {
  checkOptions(options, ['message', 'private', 'signal'], 'push');
  checkFlags({ private: options.private }, 'push');
  checkWatchers(options, 'push');
  const { message = 'Upload model with torchbind' } = options;
  checkArgument(typeof message === 'string' && message !== '', "a text for 'message'", message, 'push');
  const model = parseReference(reference, 'push');
  const settings = await hubSettings();
  if (settings.isOffline)
    throw new TorchBindError('push: HF_HUB_OFFLINE forbids to use the hub. Unset it.', 'ERR_TORCHBIND_HUB_OFFLINE');
  const { token } = settings;
  if (token === undefined) {
    throw new TorchBindError(
      "push: expected a token with the right to write, got none. Set HF_TOKEN, or log in with the hub's own command (hf auth login).",
      'ERR_TORCHBIND_HUB_ACCESS',
    );
  }
  return (directory) => upload(directory, model, { ...settings, token }, { ...options, message });
}

async function upload(
  directory: string,
  model: HubReference,
  settings: HubSettings & { token: string },
  { message, signal, ...options }: PushOptions & { message: string },
): Promise<PushResult> {
  const { createRepo, repoExists, uploadFiles } = await import('@huggingface/hub');
  const repo = { type: 'model', name: model.repo } as const;
  const { endpoint: hubUrl, token: accessToken } = settings;
  const common = { repo, hubUrl, fetch: checkedFetch(settings, model, signal), accessToken };
  return ask(model, true, async () => {
    // An answer of 404 means no here, and is not an error.
    const there = await repoExists({ ...common, fetch: hubFetch(settings, model, signal) });
    if (!there) await createRepo({ ...common, ...(options.private !== undefined && { private: options.private }) });
    const names = (await readdir(directory)).sort();
    const files = names.map((name) => ({ path: name, content: pathToFileURL(path.join(directory, name)) }));
    const done = await uploadFiles({
      ...common,
      files,
      branch: model.revision,
      commitTitle: message,
      useXet: false,
      ...(signal && { abortSignal: signal }),
    });
    return { repo: model.repo, branch: model.revision, commit: done?.commit.oid ?? null };
  });
}
