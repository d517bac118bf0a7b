/** The recipes of docs/bundlers.md, for the bundlers that vitest brings; `npm run bundlers` runs the others. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { libtorchDirectory } from '../../lib/native/native';
import { repositoryRoot } from '../helpers/python';
import { sharedTemporaryDirectory, temporaryDirectory } from '../helpers/tmp';

interface Recipe {
  name: string;
  files: [name: string, text: string][];
  command: string;
}

interface Recipes {
  RESULT: string;
  readRecipes(): Recipe[];
  withoutExternal(recipe: Recipe): Recipe;
  writeRecipe(directory: string, recipe: Recipe): void;
}

let recipes: Recipes;
beforeAll(async () => {
  const script = path.join(repositoryRoot, 'scripts/bundler-recipes.mjs');
  recipes = (await import(pathToFileURL(script).href)) as Recipes;
});

const project = sharedTemporaryDirectory();
mkdirSync(path.join(project, 'node_modules'));
for (const name of ['torchbind', 'vite', 'rolldown']) {
  const target = name === 'torchbind' ? repositoryRoot : path.join(repositoryRoot, 'node_modules', name);
  symlinkSync(target, path.join(project, 'node_modules', name), 'junction');
}

function run(command: string, cwd = project): string {
  const bin = path.join(repositoryRoot, 'node_modules/.bin');
  const env = { ...process.env, PATH: bin + path.delimiter + process.env.PATH };
  const result = spawnSync(command, { cwd, env, shell: true, encoding: 'utf8' });
  return result.stdout + result.stderr;
}

function build(recipe: Recipe): string {
  rmSync(path.join(project, 'out'), { recursive: true, force: true });
  recipes.writeRecipe(project, recipe);
  return run(recipe.command);
}

test.each(['Rolldown', 'Vite'])('%s bundles as documented, and without external the error names it', (name) => {
  const recipe = recipes.readRecipes().find((candidate) => candidate.name === name)!;
  const log = build(recipe);
  expect(run('node out/app.mjs'), log).toBe(`${recipes.RESULT}\n`);
  build(recipes.withoutExternal(recipe));
  expect(run('node out/app.mjs')).toMatch(/Error: torchbind was taken into a bundle.*mark 'torchbind' as external/);
});

test('a CommonJS bundle of what requires it names external too', () => {
  writeFileSync(path.join(project, 'app.cjs'), "console.log(require('torchbind').ones([1]).tolist());\n");
  const log = run('rolldown app.cjs --platform node --format cjs --file out/app.cjs');
  expect(run('node out/app.cjs'), log).toMatch(
    /Error: torchbind was taken into a bundle.*mark 'torchbind' as external/,
  );
});

test('a second copy in one program is refused, and both are named', () => {
  const directory = temporaryDirectory();
  const copies = ['a', 'b'].map((name) => path.join(directory, name, 'node_modules/torchbind'));
  for (const copy of copies) {
    for (const name of ['dist', 'package.json', 'build/Release'])
      cpSync(path.join(repositoryRoot, name), path.join(copy, name), { recursive: true });
  }
  symlinkSync(path.join(repositoryRoot, 'node_modules'), path.join(directory, 'node_modules'), 'junction');
  const [a, b] = copies.map((copy) => JSON.stringify(copy)) as [string, string];
  const code = `require(${a}).ones([1]); try { require(${b}).ones([1]) } catch (e) { console.log(e.code, e.message) }`;
  writeFileSync(path.join(directory, 'two.cjs'), code);
  const libtorch = libtorchDirectory();
  const { stdout } = spawnSync(process.execPath, ['two.cjs'], {
    cwd: directory,
    env: { ...process.env, TORCHBIND_LIBTORCH: libtorch },
    encoding: 'utf8',
  });
  expect(stdout).toMatch(/^ERR_TORCHBIND_LOAD[^]*two copies of torchbind[^]*npm ls torchbind[^]*npm dedupe/);
  for (const copy of copies) expect(stdout).toContain(copy);
});
