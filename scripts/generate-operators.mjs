#!/usr/bin/env node
// Writes lib/tensor/generated/{methods,functions}.ts from the schemas that the pinned libtorch reports.
// Which operators are methods and which are functions is read from libtorch's own headers.
//
//   node scripts/generate-operators.mjs            writes the files
//   node scripts/generate-operators.mjs --check    fails when they differ from what would be written
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const outDir = join(root, 'lib/tensor/generated');

/** Written by hand in tensor.ts or creation.ts, with a friendlier form than the schema's. */
const HAND_WRITTEN_METHODS = new Set(
  'item to backward numel dtype device shape grad layout stride size dim is_leaf requires_grad_ data set_data retain_grad is_contiguous tolist dispose mT mH matrix_H numpy_T storage_offset'.split(
    ' ',
  ),
);
const HAND_WRITTEN_FUNCTIONS = new Set(
  'zeros ones full empty arange linspace eye rand randn randint randperm tensor from_file scalar_tensor'.split(' '),
);

const TS_TYPES = {
  Tensor: 'Tensor',
  int: 'number',
  SymInt: 'number',
  float: 'number',
  bool: 'boolean',
  SymBool: 'boolean',
  str: 'string',
  Scalar: 'Scalar',
  ScalarType: 'DType',
  Layout: 'Layout',
  MemoryFormat: 'MemoryFormat',
  Device: 'string',
  Generator: 'Generator',
  Storage: 'Tensor',
  QScheme: 'number',
};

/** `Tensor(a!)[]? x=[]` and the like, split into type and name. Returns undefined for types that TypeScript users cannot make. */
function tsType(type) {
  const plain = type.replace(/\([a-z0-9!|*> -]+\)/gi, '');
  const optional = plain.endsWith('?');
  const base = optional ? plain.slice(0, -1) : plain;
  const list = /^(.*?)\[(\d*)\]$/.exec(base);
  let text;
  if (list === null) {
    text = TS_TYPES[base];
  } else {
    const element = tsType(list[1]);
    if (element === undefined) return undefined;
    const item = element.includes('|') ? `(${element})` : element;
    text = list[2] === '' ? `readonly ${item}[]` : `readonly ${item}[] | ${element}`;
  }
  if (text === undefined) return undefined;
  return optional ? `${text} | null` : text;
}

/** Splits at top-level commas only: defaults such as `[1, 1]` and alias marks hold commas of their own. */
function splitTop(text) {
  const parts = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    if ('([{'.includes(text[i])) depth++;
    else if (')]}'.includes(text[i])) depth--;
    else if (text[i] === ',' && depth === 0) {
      parts.push(text.slice(start, i).trim());
      start = i + 1;
    }
  }
  const last = text.slice(start).trim();
  if (last !== '') parts.push(last);
  return parts;
}

function parseSchema(declaration) {
  const open = declaration.indexOf('(');
  const arrow = declaration.lastIndexOf(') -> ');
  const [qualified, overload = ''] = declaration.slice(0, open).split('.');
  const [namespace, name] = qualified.split('::');
  let kwargOnly = false;
  const args = [];
  for (const part of splitTop(declaration.slice(open + 1, arrow))) {
    if (part === '*') {
      kwargOnly = true;
      continue;
    }
    const match = /^(.*?) (\w+)(=(.*))?$/.exec(part);
    if (match === null) throw new Error(`cannot parse argument '${part}' of ${declaration}`);
    const [, type, argName, , fallback] = match;
    args.push({
      type,
      name: argName,
      kwargOnly,
      hasDefault: fallback !== undefined,
      isOut: kwargOnly && type.includes('!'),
    });
  }
  const returnText = declaration.slice(arrow + 5).trim();
  const returns = splitTop(returnText.startsWith('(') ? returnText.slice(1, -1) : returnText);
  return { namespace, name, overload, declaration, args, returns: returns.map((r) => r.replace(/ \w+$/, '')) };
}

const camel = (name) => name.replace(/(?<=[a-z0-9])_+([a-z0-9])/gi, (_, letter) => letter.toUpperCase());

function returnType(schema) {
  const types = schema.returns.map((type) => tsType(type)?.replace(/^readonly /, ''));
  if (types.includes(undefined)) return undefined;
  if (types.length === 0) return 'void';
  return types.length === 1 ? types[0] : `[${types.join(', ')}]`;
}

/** The TypeScript signatures of one overload: positional, then any defaulted or keyword argument in trailing options. */
function signatures(schema, asMethod) {
  const args = asMethod ? schema.args.filter((a) => a.name !== 'self') : schema.args;
  const typed = args.map((a) => ({ ...a, ts: tsType(a.type), key: camel(a.name) }));
  const result = returnType(schema);
  if (result === undefined || typed.some((a) => a.ts === undefined)) return [];
  const required = typed.filter((a) => !a.kwargOnly && !a.hasDefault);
  const optional = typed.filter((a) => !a.kwargOnly && a.hasDefault);
  const keywords = typed.filter((a) => a.kwargOnly);
  // `Generator? generator` without a default is optional to a caller all the same.
  const must = keywords.filter((a) => !a.hasDefault && !a.type.endsWith('?'));
  const field = (a) => `${a.key}${must.includes(a) ? '' : '?'}: ${a.ts}`;
  const param = (a) => `${a.key === 'this' ? 'self' : reserved(a.key)}: ${a.ts}`;
  const options = [...optional, ...keywords];
  const optionsParam =
    options.length === 0 ? [] : [`options${must.length > 0 ? '' : '?'}: { ${options.map(field).join('; ')} }`];
  const forms = [[...required.map(param), ...optionsParam]];
  if (optional.length > 0) {
    const positional = optional.map((a) => `${reserved(a.key)}${must.length > 0 ? '' : '?'}: ${a.ts}`);
    const rest =
      keywords.length === 0 ? [] : [`options${must.length > 0 ? '' : '?'}: { ${keywords.map(field).join('; ')} }`];
    forms.push([...required.map(param), ...positional, ...rest]);
  }
  const onlyList =
    required.length === 1 && typed.length === required.length && /^(Sym)?[iI]nt\[\d*\]$/.test(required[0].type);
  if (asMethod && onlyList) forms.push([`...${reserved(required[0].key)}: number[]`]);
  return [...new Set(forms.map((form) => `(${form.join(', ')}): ${result}`))];
}

const RESERVED = new Set('var with default new delete in function this class return case switch'.split(' '));
const reserved = (name) => (RESERVED.has(name) ? `${name}_` : name);

function group(schemas) {
  const byName = new Map();
  for (const schema of schemas) {
    if (schema.namespace !== 'aten' || schema.args.some((a) => a.isOut) || /Dimname/.test(schema.declaration)) continue;
    if (!byName.has(schema.name)) byName.set(schema.name, []);
    byName.get(schema.name).push(schema);
  }
  return new Map([...byName].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function methodNames(include) {
  const body = readFileSync(join(include, 'ATen/core/TensorBody.h'), 'utf8');
  return new Set([...body.matchAll(/^ {2}[\w:<>,&\s]+?\b(\w+)\((?!\*).*\) const(?: &)?;$/gm)].map((m) => m[1]));
}

function functionNames(include) {
  const names = new Set();
  for (const file of readdirSync(join(include, 'ATen/ops'))) {
    if (!/^[a-zA-Z]\w*\.h$/.test(file) || /_(native|ops|dispatch|meta)\.h$/.test(file)) continue;
    const text = readFileSync(join(include, 'ATen/ops', file), 'utf8');
    const name = file.slice(0, -2);
    if (new RegExp(`^inline .*\\b${name}\\(`, 'm').test(text)) names.add(name);
  }
  return names;
}

const docLines = (overloads) => overloads.map((s) => s.declaration.replace(/\*\//g, '* /'));

function doc(overloads, indent) {
  const lines = docLines(overloads);
  if (lines.length === 1) return `${indent}/** \`${lines[0]}\` */`;
  return [`${indent}/**`, ...lines.map((l) => `${indent} * - \`${l}\``), `${indent} */`].join('\n');
}

const HEADER = `// Generated by scripts/generate-operators.mjs from the schemas of libtorch. Do not edit.
import type { DType } from '../dtype';
import type { Layout, MemoryFormat, Scalar } from '../schema-types';
import type { Generator } from '../random';
import type { Tensor } from '../tensor';
`;

function writeMethods(grouped, names) {
  const body = [];
  const listed = [];
  for (const [name, overloads] of grouped) {
    if (!names.has(name) || HAND_WRITTEN_METHODS.has(name) || name.startsWith('_')) continue;
    const usable = overloads.filter((s) => s.args[0]?.name === 'self' && s.args[0].type.startsWith('Tensor'));
    const lines = [...new Set(usable.flatMap((s) => signatures(s, true)))];
    if (lines.length === 0) continue;
    listed.push(name);
    body.push(doc(usable, '  '), ...lines.map((line) => `  ${camel(name)}${line};`));
  }
  return `${HEADER}
/** Every operator that PyTorch has as a tensor method. */
export interface TensorMethods {
${body.join('\n')}
}

/** Operators that become methods: PyTorch's names, which \`camelCase\` turns into the names above. */
export const METHOD_NAMES =
  '${listed.join(' ')}';
`;
}

function writeFunctions(grouped, names) {
  const body = [];
  const renamed = [];
  for (const [name, overloads] of grouped) {
    if (!names.has(name) || HAND_WRITTEN_FUNCTIONS.has(name) || name.startsWith('_')) continue;
    const lines = [...new Set(overloads.flatMap((s) => signatures(s, false)))];
    if (lines.length === 0) continue;
    const key = camel(name);
    const identifier = reserved(key);
    if (identifier !== key) renamed.push(`export { ${identifier} as ${key} };`);
    const type =
      lines.length === 1 ? lines[0].replace(/\): (.*)$/, ') => $1') : `{\n${lines.map((l) => `  ${l};`).join('\n')}\n}`;
    body.push(
      doc(overloads, ''),
      `${identifier === key ? 'export ' : ''}const ${identifier} = bind<${type}>('${name}');`,
    );
  }
  return `${HEADER}import { bindFunction as bind } from '../dispatch';

${body.join('\n')}
${renamed.join('\n')}
`;
}

function readDeclarations() {
  const file = process.argv.indexOf('--schemas');
  if (file > 0)
    return {
      declarations: JSON.parse(readFileSync(process.argv[file + 1], 'utf8')),
      include: process.env.TORCHBIND_INCLUDE,
    };
  const require = createRequire(import.meta.url);
  const { native, libtorchDirectory } = require(join(root, 'dist/native/native.js'));
  const binding = native();
  const declarations = binding.operatorNames().map((full) => {
    const [name, overload = ''] = full.split('.');
    return binding.schema(binding.findOperator(name, overload)).declaration;
  });
  return { declarations, include: join(libtorchDirectory(), 'include') };
}

const { declarations, include } = readDeclarations();
const grouped = group(declarations.filter((d) => d.startsWith('aten::')).map(parseSchema));
const files = {
  'methods.ts': writeMethods(grouped, methodNames(include)),
  'functions.ts': writeFunctions(grouped, functionNames(include)),
};
const check = process.argv.includes('--check');
for (const [name, text] of Object.entries(files)) {
  const path = join(outDir, name);
  if (!check) writeFileSync(path, text);
  else if (readFileSync(path, 'utf8') !== text) {
    console.error(`${path} differs from the operators of the loaded libtorch. Run: npm run generate`);
    process.exitCode = 1;
  }
}
