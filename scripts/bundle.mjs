// Puts the modules of dist/ into a few files: dist/torchbind.js holds those that an import runs, and each folder has one
// file for the rest of its modules. Opening and compiling two hundred files takes longer than running them. Each module stays a function of its own, run when it is first required, and every file of dist/ that
// could be required still can be: it hands out the module from the one file, so that all have the same instance.
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { inRoot } from './steps.mjs';

const BUNDLE = 'torchbind.js';
/** The file of a folder's modules that an import does not run. One file for all of them would hold the event loop for 20 ms. */
const restFile = (name) => `torchbind-${name.split('/').slice(0, -1).join('-') || 'root'}.js`;

/** Folders that only some programs use: a module of theirs is loaded when it is first used. */
const LAZY_FOLDERS =
  /^(checkpoint|cli|compute|data|export|formats|generation|hub|install|pickle|serve|tokenizers|train)\//;

const DYNAMIC_IMPORT = /\bimport\((['"])(\.[^'"]*)\1\)/g;
const PACKAGE_IMPORT = /\bimport\((['"])([^.'"][^'"]*)\1\)/g;

export function bundleModules() {
  const dist = inRoot('dist');
  const names = readdirSync(dist, { recursive: true, encoding: 'utf8' }).map((name) => name.replaceAll('\\', '/'));
  const sources = new Map();
  for (const name of names.filter((name) => name.endsWith('.js')).sort()) {
    const text = readFileSync(path.join(dist, name), 'utf8');
    // A program stays a file of its own, which the system runs by its first line. Its `import()` would look for the names
    // that a file exports in its text.
    if (!text.startsWith('#!')) sources.set(name, text);
    else writeFileSync(path.join(dist, name), text.replace(DYNAMIC_IMPORT, '(async () => require("$2"))()'));
  }
  const modules = new Map([...sources].map(([name, text]) => [name, rewrite(name, text, sources)]));
  // To see which modules an import runs, one must run it.
  writeFileSync(
    path.join(dist, BUNDLE),
    runtime.replace('  // modules\n', () => definitionsOf([...modules])),
  );
  const isRun = modulesOfImport(path.join(dist, BUNDLE));
  const [first, rest] = [true, false].map((run) => [...modules].filter(([name]) => isRun.has(name) === run));
  writeFileSync(
    path.join(dist, BUNDLE),
    runtime.replace('  // modules\n', () => definitionsOf(first)),
  );
  for (const [file, modules] of groupBy(rest, ([name]) => restFile(name))) {
    writeFileSync(
      path.join(dist, file),
      restText.replace('  // modules\n', () => definitionsOf(modules, { compiledWhenCalled: true })),
    );
  }
  for (const name of modules.keys()) writeFileSync(path.join(dist, name), stub(name));
  for (const name of names.filter((name) => name.endsWith('.js.map'))) rmSync(path.join(dist, name));
}

function groupBy(items, keyOf) {
  const groups = new Map();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return groups;
}

function stub(name) {
  const bundle = path.posix.relative(path.posix.dirname(name), BUNDLE);
  return `'use strict';\nmodule.exports = require('${bundle.startsWith('.') ? bundle : `./${bundle}`}').load('${name}');\n`;
}

function modulesOfImport(bundle) {
  const require = createRequire(import.meta.url);
  const { load, modules } = require(bundle);
  Object.values(load('index.js')); // as the ES module does
  delete require.cache[bundle];
  return new Set(modules.keys());
}

/** A module's text with what it requires resolved: its own kind by name, all else when it is first used. */
function rewrite(name, text, sources) {
  const resolve = (specifier) => {
    const at = path.posix.join(path.posix.dirname(name), specifier);
    const found = [at, `${at}.js`, `${at}/index.js`].find((candidate) => sources.has(candidate));
    if (found === undefined) throw new Error(`${name} requires ${specifier}, which is not a module of dist/`);
    return found;
  };
  const local = text
    .replace(/^\/\/# sourceMappingURL=.*$/m, '')
    .replace(/\brequire\("(\.[^"]*)"\)/g, (_, specifier) => `$load("${resolve(specifier)}")`)
    .replace(DYNAMIC_IMPORT, (_, quote, specifier) => `(async () => $load("${resolve(specifier)}"))()`)
    // Bundlers would take the package along.
    .replace(PACKAGE_IMPORT, '$import("$2")')
    .replace(/\b__dirname\b/g, `$directory("${name}")`)
    .replace(/\b__filename\b/g, `$file("${name}")`);
  return operatorsByTable(lazyModulesWhenUsed(externalsWhenUsed(local))).trim();
}

/** `const node_fs_1 = require("node:fs")`, as TypeScript writes imports, and its uses as `node_fs_1.readFileSync`. */
function externalsWhenUsed(text) {
  const imports = /^const (\w+_\d+) = (?:require\("([^"]+)"\)|__importDefault\(require\("([^"]+)"\)\));\n/gm;
  const externals = new Map();
  const rest = text.replace(imports, (_, variable, whole, byDefault) => {
    externals.set(variable, { name: whole ?? byDefault, byDefault: whole === undefined });
    return '';
  });
  return [...externals].reduce(
    (code, [variable, { name, byDefault }]) =>
      code.replace(new RegExp(`\\b${variable}${byDefault ? '\\.default' : ''}\\b`, 'g'), `($external("${name}"))`),
    rest,
  );
}

/** `const pt_1 = $load("formats/pt.js")`, and its uses as `pt_1.load`. */
function lazyModulesWhenUsed(text) {
  const lazyModules = new Map();
  const rest = text.replace(/^const (\w+_\d+) = \$load\("([^"]+)"\);\n/gm, (statement, variable, name) => {
    if (!LAZY_FOLDERS.test(name)) return statement;
    lazyModules.set(variable, name);
    return '';
  });
  const lazy = [...lazyModules].reduce(
    (code, [variable, name]) =>
      code.replace(new RegExp(`\\b${variable}\\b`, 'g'), `(${variable} ??= $load("${name}"))`),
    rest,
  );
  return lazyModules.size === 0
    ? lazy
    : lazy.replace(/^("use strict";\n)?/, `$1let ${[...lazyModules.keys()].join(', ')};\n`);
}

/** The functions that do nothing but call an operator: nine hundred statements of their own take ten times as long. */
function operatorsByTable(text) {
  const statement = /^exports\.(\w+) = \(0, dispatch_1\.bindFunction\)\('(\w+)'\);\n/gm;
  const bound = [...text.matchAll(statement)];
  if (bound.length < 100) return text;
  const table = bound.map(([, key, name]) => `${key}:${name}`).join(' ');
  const loop =
    `for (const pair of "${table}".split(" ")) {\n` +
    '    const colon = pair.indexOf(":");\n' +
    '    exports[pair.slice(0, colon)] = (0, dispatch_1.bindFunction)(pair.slice(colon + 1));\n}\n';
  const withoutNames = text.replace(/^(?:exports\.\w+ = )+void 0;\n/gm, '');
  let first = true;
  return withoutNames
    .replace(/^\/\*\*(?:[^*]|\*(?!\/))*\*\/\n(?=exports\.\w+ = \(0, dispatch_1\.bindFunction\))/gm, '')
    .replace(statement, () => {
      const written = first ? loop : '';
      first = false;
      return written;
    });
}

/** V8 compiles a function in parentheses with the file, and any other when it is first called. */
function definitionsOf(modules, { compiledWhenCalled = false } = {}) {
  const [open, close] = compiledWhenCalled ? ['', ''] : ['(', ')'];
  return modules
    .map(([name, text]) => `  // ${name}\n  '${name}': ${open}function (exports) {\n${text}\n}${close},\n`)
    .join('');
}

/** Why the package does not run from another program's bundle; what the ES module says too. */
export const BUNDLED =
  'torchbind was taken into a bundle, and does not run from there: it loads a compiled addon from its own directory. ' +
  "Leave it out: mark 'torchbind' as external (esbuild: --external:torchbind; Rollup: external; Vite: ssr.external; " +
  'webpack: externals; Next: serverExternalPackages), and install it where the bundle runs. ' +
  'See docs/bundlers.md of the package.';

const runtime = `'use strict';
// Written by scripts/bundle.mjs: the modules of this directory, each a function that runs when it is first loaded.
// A bundler runs this text from a file of its own, or gives it a path that is not there.
const isOwnFile =
  typeof __filename === 'string' &&
  /^(?:[/]|[a-z]:|[\\\\]{2}).*[\\\\/]torchbind[.]js$/i.test(__filename) &&
  process.getBuiltinModule('node:fs').existsSync(__filename);
if (!isOwnFile) throw Object.assign(new Error(${JSON.stringify(BUNDLED)}), { code: 'ERR_TORCHBIND_LOAD' });

// Bundlers look through \`require\`, and refuse names that they cannot know.
const load = process.getBuiltinModule('node:module').createRequire(__filename);
const path = load('node:path');

/** What has been loaded, by name: the exports. */
const modules = new Map();
const complete = new Set();

function $load(name) {
  let exports = modules.get(name);
  if (exports === undefined) {
    exports = {};
    modules.set(name, exports);
    try {
      definition(name).call(helpers, exports);
    } catch (error) {
      modules.delete(name);
      throw error;
    }
    complete.add(exports);
  }
  return exports;
}

function definition(name) {
  if (!Object.hasOwn(definitions, name)) {
    Object.assign(definitions, load('./' + restFile(name))({ $load, $external, $import, $file, $directory }));
  }
  return definitions[name];
}

const restFile = ${restFile};

const externals = new Map();

function $external(name) {
  let found = externals.get(name);
  if (found === undefined) externals.set(name, (found = load(name)));
  return found;
}

const $import = (name) => import(name);
const $file = (name) => path.join(__dirname, name);
const $directory = (name) => path.dirname($file(name));

/** TypeScript's helpers, shared; modules that are complete give their values and need no getters. */
const helpers = {
  __exportStar(from, to) {
    for (const key of Object.keys(from)) {
      if (key === 'default' || Object.hasOwn(to, key)) continue;
      if (complete.has(from)) to[key] = from[key];
      else Object.defineProperty(to, key, { enumerable: true, get: () => from[key] });
    }
  },
};

const definitions = {
  // modules
};

module.exports = { load: $load, modules };
`;

const restText = `'use strict';
// Written by scripts/bundle.mjs: the modules that an import does not run; see torchbind.js.
// In parentheses, so that V8 does not read the text twice.
module.exports = (({ $load, $external, $import, $file, $directory }) => ({
  // modules
}));
`;
