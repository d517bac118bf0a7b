/** What set-up does through pip, under whatever package index this machine's pip is configured with. */
import { mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import { TorchBindError } from '../errors';
import { runProgram } from './process';
import type { Python } from './python';

const QUIET = ['--disable-pip-version-check', '--no-input', '--quiet'];

/** Downloads the wheel of `requirement` alone, without what it needs, into `directory`; returns its path. */
export async function pipDownload(python: Python, requirement: string, directory: string): Promise<string> {
  await mkdir(directory, { recursive: true });
  const options = [...QUIET, '--no-deps', '--only-binary', ':all:', '--dest', directory];
  await runPip(python, ['download', ...options, requirement]);
  const wheel = (await readdir(directory)).find((name) => name.endsWith('.whl'));
  if (wheel === undefined)
    throw new TorchBindError(`pip downloaded no wheel of ${requirement}`, 'ERR_TORCHBIND_PROGRAM');
  return path.join(directory, wheel);
}

/** Installs into a directory for PYTHONPATH. Existing packages of the same name are replaced. */
export async function pipInstall(
  python: Python,
  requirements: string[],
  directory: string,
  { withDependencies = true } = {},
): Promise<void> {
  const options = [...QUIET, '--only-binary', ':all:', '--no-warn-conflicts', '--upgrade', '--target', directory];
  if (!withDependencies) options.push('--no-deps');
  await runPip(python, ['install', ...options, ...requirements]);
}

async function runPip(python: Python, args: string[]): Promise<void> {
  // Bytecode is compiled when it is first imported; compiling all of it now takes a minute.
  const compile = args[0] === 'install' ? ['--no-compile'] : [];
  await runProgram(python.command, ['-m', 'pip', args[0]!, ...compile, ...args.slice(1)]).catch((error: Error) => {
    if (!/No module named pip/.test(error.message)) throw error;
    throw new TorchBindError(
      `${python.command} has no pip. Install it: 'apt-get install python3-pip' on Debian and Ubuntu, ` +
        `'${python.command} -m ensurepip' elsewhere.`,
      'ERR_TORCHBIND_MISSING_TOOL',
      { cause: error },
    );
  });
}
