import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { checkFlags, checkOptions, checkWatchers, TorchBindError } from '../errors';
import { parseReference } from './reference';
import { ask, checkedFetch, hubFetch } from './request';
import { hubSettings } from './settings';

export interface PushOptions {
  /** First line of the commit. Default `Upload model with torchbind`. */
  message?: string;
  /** Make a new repository private. Default false. */
  private?: boolean;
  /** Abandons the upload. Nothing changes in the repository unless all has arrived. */
  signal?: AbortSignal;
}

export const pushOptionNames = ['message', 'private'] as const;

/** What was pushed. */
export interface PushResult {
  repo: string;
  branch: string;
  /** The commit's 40 digits; null where the repository had all of it. */
  commit: string | null;
}

/**
 * Uploads the files of a directory in one commit, to a repository that is made if it is not there.
 *
 * @throws ERR_TORCHBIND_HUB_ACCESS without a token that may write there; ERR_TORCHBIND_HUB, ERR_TORCHBIND_HUB_OFFLINE
 */
export async function pushDirectory(
  directory: string,
  reference: string,
  options: PushOptions = {},
): Promise<PushResult> {
  checkOptions(options, [...pushOptionNames, 'signal'], 'push');
  checkFlags({ private: options.private }, 'push');
  checkWatchers(options, 'push');
  const { message = 'Upload model with torchbind', signal } = options;
  const model = parseReference(reference, 'push');
  const settings = await hubSettings();
  const { token, endpoint } = settings;
  if (settings.isOffline)
    throw new TorchBindError('push: HF_HUB_OFFLINE forbids to use the hub. Unset it.', 'ERR_TORCHBIND_HUB_OFFLINE');
  if (token === undefined) {
    throw new TorchBindError(
      "push: expected a token with the right to write, got none. Set HF_TOKEN, or log in with the hub's own command (hf auth login).",
      'ERR_TORCHBIND_HUB_ACCESS',
    );
  }
  const { createRepo, repoExists, uploadFiles } = await import('@huggingface/hub');
  const repo = { type: 'model', name: model.repo } as const;
  const fetch = checkedFetch(settings, model, signal);
  const common = { repo, hubUrl: endpoint, fetch, accessToken: token };
  return ask(model, true, async () => {
    // An answer of 404 means no here, and is no error.
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
