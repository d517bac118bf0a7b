import { randomBytes } from 'node:crypto';
import { mkdir, readdir, realpath, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { adoptOwners, exists, makeDirectory, syncDirectory } from './files';

/**
 * Puts a directory in place of the one that is there, if any. It is filled aside and renamed: a crash leaves the old one or
 * the new one, the old one between two renames as `.<name>.replaced`.
 *
 * @param fill writes and syncs the files
 * @param isOurs whether a file of the old directory goes with it; others move to the new one
 */
export async function replaceDirectory(
  target: string,
  fill: (directory: string) => Promise<void>,
  isOurs: (name: string) => boolean,
): Promise<void> {
  const place = await realpath(target).catch(() => path.resolve(target));
  const [parent, name] = [path.dirname(place), path.basename(place)];
  const aside = path.join(parent, `.${name}.replaced`);
  const staging = path.join(parent, `.${name}.saving-${randomBytes(6).toString('hex')}`);
  await makeDirectory(parent);
  await settle(place, aside, isOurs);
  try {
    await mkdir(staging, { mode: (await exists(place)) ? 0o700 : 0o777 });
    await fill(staging);
    await adoptOwners(staging, place);
    await syncDirectory(staging);
    if (await exists(place)) await rename(place, aside);
    await rename(staging, place);
    await syncDirectory(parent);
  } finally {
    await rm(staging, { recursive: true, force: true });
    await settle(place, aside, isOurs);
  }
}

/** Ends a replacement, or takes back one that was cut short. */
async function settle(place: string, aside: string, isOurs: (name: string) => boolean): Promise<void> {
  if (!(await exists(aside))) return;
  if (!(await exists(place))) return rename(aside, place);
  for (const name of await readdir(aside)) {
    const to = path.join(place, name);
    if (!isOurs(name) && !(await exists(to))) await rename(path.join(aside, name), to);
  }
  await rm(aside, { recursive: true, force: true });
}
