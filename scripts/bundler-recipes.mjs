// The recipes of docs/bundlers.md, as files to run. Tests run some of them, scripts/bundlers.mjs all.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { inRoot } from './steps.mjs';

/** What the bundled program prints. */
export const RESULT = '[2]';

const APP = "import { tensor } from 'torchbind';\n\nconsole.log(JSON.stringify(tensor([1]).add(1).tolist()));\n";

/** Name, files ([name, text]) and command of each. */
export function readRecipes() {
  const sections = readFileSync(inRoot('docs/bundlers.md'), 'utf8').split(/^## /m).slice(1);
  return sections.map((section) => ({
    name: section.slice(0, section.indexOf('\n')),
    files: [...section.matchAll(/^```m?js\n\/\/ (\S+)\n([\s\S]*?)^```$/gm)].map(([, file, text]) => [file, text]),
    command: /^```sh\n(.*)\n```$/m.exec(section)[1],
  }));
}

/** The same recipe for a reader who did not leave the package out. */
export function withoutExternal({ name, files, command }) {
  const change = (text) =>
    text
      .replace(/^ *externals?: .*\n/gm, '')
      .replace(/ssr: \{ external: [^\]]*\], /, 'ssr: { ')
      .replace(/serverExternalPackages: [^\]]*\]/, '')
      .replace(' --external:torchbind', '');
  return { name, files: files.map(([file, text]) => [file, change(text)]), command: change(command) };
}

/** Writes the recipe's files and the program `app.mjs` into a directory. */
export function writeRecipe(directory, { files }) {
  for (const [name, text] of [['app.mjs', APP], ...files]) {
    const file = path.join(directory, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, text);
  }
}
