// Writes dist/index.mjs and dist/index.d.mts: an ES module over the CommonJS build, so that a program which imports
// torchbind in one place and requires it in another has one instance of it.
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { inRoot } from './steps.mjs';

export async function writeEsmWrapper() {
  const names = Object.keys(createRequire(import.meta.url)(inRoot('dist/index.js'))).sort();
  // Exported under another name inside, because a name such as `var` is fine outside and a keyword here.
  const lines = names.map((name, i) => `const _${i} = torchbind.${name};`);
  const exports = names.map((name, i) => `  _${i} as ${name},`);
  const text = [
    // Not an import of the CommonJS file: Node would first read every file behind it in search of export names.
    "import { createRequire } from 'node:module';",
    '',
    "const torchbind = createRequire(import.meta.url)('./index.js');",
    '',
    ...lines,
    '',
    'export {',
    ...exports,
    '};',
    '',
  ].join('\n');
  writeFileSync(inRoot('dist/index.mjs'), text);
  writeFileSync(inRoot('dist/index.d.mts'), "export * from './index.js';\n");
}
