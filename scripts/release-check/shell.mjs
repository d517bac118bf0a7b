// How the parts of the release check run programs.
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { inRoot, SetupError } from '../steps.mjs';

/** What cannot be checked on this machine, and why. The check then fails: a release needs all of it. */
export class NotHere extends SetupError {}

/** Runs a program and returns all that it printed. Throws with the end of it if the exit status is not 0. */
export async function run(command, { cwd, env = {}, timeout = 1_200_000 } = {}) {
  const { failed, text } = await attempt(command, { cwd, env, timeout });
  if (failed) throw new SetupError(`${command.join(' ')}: ${text.trim().slice(-4000)}`);
  return text;
}

/** As `run`, for a program that may fail. */
export function attempt([program, ...args], { cwd, env = {}, timeout = 1_200_000 } = {}) {
  const options = { cwd, timeout, env: { ...process.env, ...env }, maxBuffer: 2 ** 28 };
  return new Promise((resolve) => {
    const child = execFile(
      program,
      args,
      { ...options, shell: process.platform === 'win32' },
      (error, stdout, stderr) => {
        const text = `${stdout}${stderr}`;
        resolve({ failed: error !== null, text: error === null ? text : text || error.message });
      },
    );
    child.stdin.end();
  });
}

export function expectText(text, wanted, what) {
  if (!text.includes(wanted)) throw new SetupError(`${what}: expected '${wanted}', got ${text.trim().slice(-600)}`);
}

/** A new project with these files. */
export function makeProject(directory, files) {
  mkdirSync(directory, { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(directory, name)), { recursive: true });
    writeFileSync(path.join(directory, name), typeof content === 'string' ? content : JSON.stringify(content, null, 2));
  }
  return directory;
}

/** The libtorch that this repository uses. */
export async function libtorchHere() {
  const code = "console.log(require('./dist/native/native.js').libtorchDirectory())";
  return (await run([process.execPath, '-e', code], { cwd: inRoot() })).trim();
}

/** Variables of a user who has just got this machine: a home of their own, and no libtorch. Settings of the network stay. */
export function newUser(home) {
  mkdirSync(home, { recursive: true });
  const unset = ['XDG_CACHE_HOME', 'TORCHBIND_LIBTORCH', 'LIBTORCH', 'TORCHBIND_USE_PYTORCH', 'TORCHBIND_MIRROR'];
  const own = { HOME: home, USERPROFILE: home, npm_config_userconfig: path.join(homedir(), '.npmrc') };
  // pyenv finds its Pythons by the home directory.
  const pyenv = process.env.PYENV_ROOT ?? path.join(homedir(), '.pyenv');
  return {
    ...Object.fromEntries(unset.map((name) => [name, undefined])),
    ...own,
    PYENV_ROOT: existsSync(pyenv) ? pyenv : undefined,
  };
}
