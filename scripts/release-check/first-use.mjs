// `npx torchbind install` as a new user runs it: from an empty home directory to the first tensor, with progress.
import path from 'node:path';
import { SetupError } from '../steps.mjs';
import { expectText, makeProject, newUser, run } from './shell.mjs';

export async function firstUse({ tarball }, directory) {
  const home = path.join(directory, 'first-home');
  const env = newUser(home);
  const project = makeProject(path.join(directory, 'first'), {
    'package.json': { name: 'stranger', private: true, version: '1.0.0' },
    'use.mjs': "import { ones } from 'torchbind';\nconsole.log('sum', ones([2, 3]).sum().item());",
  });
  const here = (command) => run(command, { cwd: project, env });
  await here(['npm', 'install', tarball]);
  const fetched = await here(onTerminal(['npx', 'torchbind', 'install']));
  const seen = new Set(fetched.match(/[\d.]+ (?:MB|files)/g) ?? []);
  if (process.platform === 'linux' && seen.size < 5)
    throw new SetupError(`expected progress on the terminal, got ${fetched.trim().slice(-600)}`);
  const installed = /libtorch (\d\S*): (\S+)/.exec(fetched);
  if (installed === null) throw new SetupError(`expected where libtorch is, got ${fetched.trim().slice(-600)}`);
  expectText(installed[2], home, 'libtorch is in the cache of the new user');
  expectText(await here([process.execPath, 'use.mjs']), 'sum 6', 'the first tensor');
  await here(['npx', 'torchbind', 'doctor']);
  const again = await here(['npx', 'torchbind', 'install']);
  if (/downloading/.test(again)) throw new SetupError(`the second installation fetched again: ${again}`);
  return `libtorch ${installed[1]}, ${seen.size} states of progress`;
}

/** Progress is drawn on terminals alone: util-linux' script(1) is one. */
function onTerminal(command) {
  return process.platform === 'linux' ? ['script', '-qefc', command.join(' '), '/dev/null'] : command;
}
