/** What set-up does through pip, under whatever package index this machine's pip is configured with. */
import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { TorchBindError } from '../errors';
import { runProgram } from './process';
import type { Python } from './python';
import { type Reporter, silentReporter } from './report';

const QUIET = ['--disable-pip-version-check', '--no-input', '--quiet'];

/** Downloads the wheel of `requirement` alone, without what it needs, into `directory`; returns its path. */
export async function pipDownload(
  python: Python,
  requirement: string,
  directory: string,
  reporter: Reporter = silentReporter,
): Promise<string> {
  await mkdir(directory, { recursive: true });
  const options = [...QUIET, '--no-deps', '--only-binary', ':all:', '--dest', directory];
  await runPip(python, ['download', ...options, requirement], directory, reporter);
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
  { withDependencies = true, reporter = silentReporter } = {},
): Promise<void> {
  const options = [...QUIET, '--only-binary', ':all:', '--no-warn-conflicts', '--upgrade', '--target', directory];
  if (!withDependencies) options.push('--no-deps');
  await mkdir(directory, { recursive: true });
  await runPip(python, ['install', ...options, ...requirements], directory, reporter);
}

/** Runs pip with a temporary directory in `directory`, whose size tells how far it is: pip draws progress on terminals alone. */
async function runPip(python: Python, args: string[], directory: string, reporter: Reporter): Promise<void> {
  // Bytecode is compiled when it is first imported; compiling all of it now takes a minute.
  const compile = args[0] === 'install' ? ['--no-compile'] : [];
  const temporary = await mkdtemp(path.join(directory, '.pip-'));
  const look = async (): Promise<void> => {
    const bytes = await bytesIn(temporary);
    if (ended) return;
    if (bytes > 0) reporter.progress(bytes, 0, 'bytes');
    timer = setTimeout(() => void look(), progressInterval);
  };
  let ended = false;
  let timer = setTimeout(() => void look(), progressInterval);
  const env = { ...process.env, TMPDIR: temporary };
  try {
    await runProgram(python.command, ['-m', 'pip', args[0]!, ...compile, ...args.slice(1)], { env });
  } catch (error) {
    if (!/No module named pip/.test((error as Error).message)) throw error;
    throw new TorchBindError(
      `${python.command} has no pip. Install it: 'apt-get install python3-pip' on Debian and Ubuntu, ` +
        `'${python.command} -m ensurepip' elsewhere.`,
      'ERR_TORCHBIND_MISSING_TOOL',
      { cause: error },
    );
  } finally {
    ended = true;
    clearTimeout(timer);
    await rm(temporary, { recursive: true, force: true });
  }
}

/** Milliseconds. */
const progressInterval = 250;

/** Bytes of the files in a directory, which may go away meanwhile. */
async function bytesIn(directory: string): Promise<number> {
  const names = await readdir(directory, { recursive: true }).catch(() => []);
  const sizes = await Promise.all(
    names.map((name) =>
      stat(path.join(directory, name)).then(
        (entry) => (entry.isFile() ? entry.size : 0),
        () => 0,
      ),
    ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}
