import { copyFile, mkdir, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { randomBytes } from 'node:crypto';
import { type HubReference, isCommit } from './reference';

/**
 * The cache of Python's huggingface_hub, which both share:
 *
 *     models--owner--name/blobs/<etag>              contents, by their checksum
 *     models--owner--name/snapshots/<commit>/<file> links to them
 *     models--owner--name/refs/<branch>             the commit that a branch had
 */
export class RepoCache {
  readonly directory: string;

  constructor(
    private readonly root: string,
    { repo }: HubReference,
  ) {
    this.directory = path.join(root, this.folder(repo));
  }

  private folder(repo: string): string {
    return `models--${repo.replace('/', '--')}`;
  }

  snapshot(commit: string): string {
    return path.join(this.directory, 'snapshots', commit);
  }

  blob(etag: string): string {
    return path.join(this.directory, 'blobs', etag);
  }

  /** Where Python's client locks a blob while it is fetched. */
  lock(etag: string): string {
    return path.join(this.root, '.locks', path.basename(this.directory), `${etag}.lock`);
  }

  /** The commit that a revision had when it was fetched last; undefined where it never was. */
  async commitOf(revision: string): Promise<string | undefined> {
    if (isCommit(revision)) return revision;
    const text = (
      await readFile(path.join(this.directory, 'refs', ...revision.split('/')), 'utf8').catch(() => '')
    ).trim();
    return isCommit(text) ? text : undefined;
  }

  async noteCommit(revision: string, commit: string): Promise<void> {
    if (isCommit(revision) || (await this.commitOf(revision)) === commit) return;
    const file = path.join(this.directory, 'refs', ...revision.split('/'));
    await mkdir(path.dirname(file), { recursive: true });
    const aside = `${file}.${randomBytes(6).toString('hex')}`;
    await writeFile(aside, commit);
    await rename(aside, file);
  }

  /** The names of a snapshot's files that are there. */
  async names(commit: string): Promise<Set<string>> {
    const names = await readdir(this.snapshot(commit)).catch(() => []);
    const there = await Promise.all(names.map((name) => isFile(path.join(this.snapshot(commit), name))));
    return new Set(names.filter((_, i) => there[i]));
  }

  /** Puts a blob under a name into a snapshot: as a link, or where there are none as a copy. */
  async link(etag: string, commit: string, name: string): Promise<void> {
    const file = path.join(this.snapshot(commit), name);
    if (await isFile(file)) return;
    await mkdir(path.dirname(file), { recursive: true });
    await rm(file, { force: true }); // a link to a blob that is gone
    try {
      await symlink(path.join('..', '..', 'blobs', etag), file);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') return;
      if (code !== 'EPERM' && code !== 'ENOSYS' && code !== 'EACCES') throw error;
      await copyFile(this.blob(etag), file);
    }
  }
}

export function isFile(file: string): Promise<boolean> {
  return stat(file).then(
    (info) => info.isFile(),
    () => false,
  );
}
