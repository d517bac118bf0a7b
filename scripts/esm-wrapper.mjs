// Writes dist/index.mjs and dist/index.d.mts: an ES module over the CommonJS build, so that a program which imports
// torchbind in one place and requires it in another has one instance of it.
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { BUNDLED } from './bundle.mjs';
import { inRoot } from './steps.mjs';

export async function writeEsmWrapper() {
  const names = Object.keys(createRequire(import.meta.url)(inRoot('dist/index.js'))).sort();
  const [reserved, free] = [names.filter((name) => !isVariable(name)), names.filter(isVariable)];
  const text = [
    // Not an import of the CommonJS file: Node would first read every file behind it in search of export names.
    "import { createRequire } from 'node:module';",
    '',
    'let torchbind;',
    'try {',
    "  torchbind = createRequire(import.meta.url)('./torchbind.js').load('index.js');",
    '} catch (error) {',
    // The second where the bundler leaves no `import.meta.url`.
    `  const isBundled = error.message.startsWith("Cannot find module './torchbind.js'") || error.code === 'ERR_INVALID_ARG_VALUE';`,
    '  if (!isBundled) throw error;',
    `  throw Object.assign(new Error(${JSON.stringify(BUNDLED)}, { cause: error }), { code: 'ERR_TORCHBIND_LOAD' });`,
    '}',
    '',
    'export const {',
    ...free.map((name) => `  ${name},`),
    '} = torchbind;',
    '',
    // A keyword such as `var` is fine as a name outside.
    ...reserved.flatMap((name, i) => [`const _${i} = torchbind.${name};`, `export { _${i} as ${name} };`]),
    '',
  ].join('\n');
  writeFileSync(inRoot('dist/index.mjs'), text);
  writeFileSync(inRoot('dist/index.d.mts'), "export * from './index.js';\n");
}

/** Whether a module can have a variable of this name. */
function isVariable(name) {
  try {
    new Function(`'use strict'; const ${name} = 0;`);
    return !['await', 'torchbind', 'createRequire'].includes(name);
  } catch {
    return false;
  }
}
