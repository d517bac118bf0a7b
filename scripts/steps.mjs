// What the set-up scripts share. It runs before node_modules exists, so it uses nothing but Node.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));
export const inRoot = (...parts) => path.join(root, ...parts);

/** Something for the person to put right: shown without a stack. */
export class SetupError extends Error {}

/** Runs a script's main function; what a person can put right is one message. */
export async function main(run) {
  try {
    process.exitCode = (await run(process.argv.slice(2))) ?? 0;
  } catch (error) {
    const isOurs = error instanceof SetupError || String(error?.code).startsWith('ERR_TORCHBIND');
    process.stderr.write(`torchbind: ${isOurs ? error.message : error.stack}\n`);
    process.exitCode = 1;
  }
}

export function say(text) {
  process.stderr.write(`torchbind: ${text}\n`);
}

/** Every tool that is missing, each with how to get it, in one error. */
export function requireTools(tools, env = process.env) {
  const missing = tools.filter((tool) => !tool.isThere(env));
  if (missing.length === 0) return;
  throw new SetupError(
    ['set-up needs what is not on this machine:', ...missing.map((tool) => `  - ${tool.help}`)].join('\n'),
  );
}

const runs = (command, args) => (env) =>
  spawnSync(command, args, { env, stdio: 'ignore', timeout: 30_000 }).status === 0;
const anyRuns = (commands, args) => (env) => commands.some((command) => runs(command, args)(env));

export const tools = {
  node: {
    isThere: () => isNodeNewEnough(process.versions.node),
    help: `Node.js 20.17 or later; this is ${process.versions.node} (nodejs.org, or your version manager: 'nvm install 22')`,
  },
  python: {
    isThere: anyRuns(['python3', 'python'], ['-c', 'import sys; sys.exit(sys.version_info < (3, 10))']),
    help: "Python 3.10 or later: 'apt-get install python3' (Debian, Ubuntu), 'brew install python' (macOS)",
  },
  pip: {
    isThere: anyRuns(['python3', 'python'], ['-m', 'pip', '--version']),
    help: "pip, Python's installer: 'apt-get install python3-pip' (Debian, Ubuntu), 'python3 -m ensurepip' (elsewhere)",
  },
  cmake: {
    isThere: runs('cmake', ['--version']),
    help: "CMake 3.22 or later: 'apt-get install cmake' (Debian, Ubuntu), 'brew install cmake' (macOS)",
  },
  compiler: {
    isThere: (env) =>
      process.platform === 'win32' || anyRuns(env.CXX ? [env.CXX] : ['c++', 'g++', 'clang++'], ['--version'])(env),
    help: "a C++20 compiler: 'apt-get install g++' (Debian, Ubuntu), 'xcode-select --install' (macOS)",
  },
  make: {
    isThere: (env) => process.platform === 'win32' || anyRuns(['ninja', 'make'], ['--version'])(env),
    help: "ninja or make: 'apt-get install ninja-build' (Debian, Ubuntu), 'xcode-select --install' (macOS)",
  },
};

function isNodeNewEnough(version) {
  const [major, minor] = version.split('.').map(Number);
  return major > 20 || (major === 20 && minor >= 17);
}

/** SHA-256 over the names and bytes of files and directories of the repository, and over any further facts. */
export function fingerprint(paths, facts = []) {
  const hash = createHash('sha256').update(JSON.stringify(facts));
  for (const file of paths.flatMap(listFiles).sort()) hash.update(`\n${file}\n`).update(readFileSync(inRoot(file)));
  return hash.digest('hex');
}

function listFiles(name) {
  const entry = inRoot(name);
  if (!existsSync(entry)) return [];
  const found = readdirOrUndefined(entry);
  return found === undefined ? [name] : found.flatMap((child) => listFiles(`${name}/${child}`));
}

function readdirOrUndefined(directory) {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (error.code === 'ENOTDIR') return undefined;
    throw error;
  }
}

/** Does `work` unless it was done before with the same fingerprint and its `output` is still there. */
export async function once(name, key, output, work) {
  const stamp = inRoot('build', `${name}.stamp`);
  if (existsSync(output) && existsSync(stamp) && readFileSync(stamp, 'utf8') === key) return false;
  await work();
  mkdirSync(path.dirname(stamp), { recursive: true });
  writeFileSync(stamp, key);
  return true;
}

/** Runs a program with its output on this terminal; resolves to its exit status. */
export function runVisibly(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], ...options });
    child.on('error', reject);
    child.on('close', (status) => resolve(status ?? 1));
  });
}

/** Runs a program quietly; where it fails, all that it printed is shown. `onText` sees its output as it comes. */
export function runQuietly(what, command, args, { onText, ...options } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], ...options });
    let printed = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        printed += text;
        onText?.(text);
      });
    }
    child.on('error', reject);
    child.on('close', (status) => {
      if (status === 0) resolve(printed);
      else reject(new SetupError(`${what} failed (status ${status}):\n${printed}`));
    });
  });
}
