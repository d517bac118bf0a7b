import { describe, TorchBindError } from '../errors';

/** A model on the Hugging Face hub. */
export interface HubReference {
  /** `owner/name`; the oldest models have no owner. */
  repo: string;
  /** A branch, a tag, or a commit's 40 digits. Default `main`. */
  revision: string;
}

const scheme = 'hf:';
const part = /^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$/;

export function isHubReference(value: unknown): boolean {
  return typeof value === 'string' && value.startsWith(scheme);
}

/**
 * `hf:owner/name@revision`, by the rules that the hub has for names.
 *
 * @throws ERR_TORCHBIND_INVALID_ARGUMENT
 */
export function parseReference(value: unknown, where: string): HubReference {
  const [, repo = '', revision = 'main'] = (typeof value === 'string' && /^hf:([^@]*)(?:@(.*))?$/s.exec(value)) || [];
  const parts = repo.split('/');
  const isRepo = parts.length <= 2 && parts.every((one) => part.test(one) && !/--|\.\./.test(one));
  // A revision becomes the name of a file in the cache.
  const isRevision = revision
    .split('/')
    .every((one) => /^[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}$/.test(one) && !one.includes('..'));
  if (isRepo && isRevision) return { repo, revision };
  throw new TorchBindError(
    `${where}: expected a model on the hub as hf:owner/name or hf:owner/name@revision, got ${describe(value)}.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}

export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}
