#!/usr/bin/env node
// Writes lib/tensor/generated/ from the schemas that the pinned libtorch reports. Which operators are methods and which
// are functions is read from libtorch's own headers.
//
//   node scripts/generate-operators.mjs            writes the files
//   node scripts/generate-operators.mjs --check    fails when they differ from what would be written
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MORE_NOTES } from './operators/more-notes.mjs';
import { NOTES } from './operators/notes.mjs';
import { SECOND_NAMES } from './operators/second-names.mjs';
import { camel, parseSchema, shapeOf } from './operators/schema.mjs';
import { reserved, signatures, TupleTypes } from './operators/signatures.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const outDir = join(root, 'lib/tensor/generated');
const words = (text) => new Set(text.split(' '));

/** Written by hand in lib/tensor, with a friendlier form than the schema's. */
const HAND_WRITTEN_METHODS = words(
  'item to backward numel dtype device shape grad layout stride size dim is_leaf requires_grad_ data set_data retain_grad tolist dispose mT mH matrix_H numpy_T real imag storage_offset norm stft',
);
const HAND_WRITTEN_FUNCTIONS = words(
  'zeros ones full empty arange linspace eye rand randn randint randperm tensor from_file scalar_tensor slice norm stft einsum tensordot meshgrid broadcast_tensors cartesian_prod block_diag chain_matmul atleast_1d atleast_2d atleast_3d cdist unique_consecutive',
);
/** Inline in headers of another form than those that are read here. */
const MORE_METHODS = words('contiguous conj is_complex is_conj is_floating_point is_inference is_neg is_signed');
const MORE_FUNCTIONS = words('conj is_complex is_conj is_floating_point is_inference is_neg is_signed numel');
/** Groups of functions that Python has in modules of their own: `torch.linalg.norm`. */
const MODULES = ['linalg', 'fft', 'special'];

/** Kernels that others call: under `ops` only, so that completion shows PyTorch's surface. */
const KERNELS =
  /_(backward|forward)(_|$)|^(cudnn|mkldnn|miopen|fbgemm|quantized|slow_conv|thnn|sym|lift|batch_norm)_|^lift$|_(jvp|cachemask|functional|overrideable)$|^(fused_moving_avg|rrelu_with_noise|conv_depthwise|choose_qparams|sparse_resize|copy_sparse)/;

function group(schemas) {
  const byName = new Map();
  for (const schema of schemas) {
    if (schema.namespace !== 'aten' || /Dimname/.test(schema.declaration)) continue;
    if (!byName.has(schema.name)) byName.set(schema.name, { overloads: [], outVariants: new Map() });
    const entry = byName.get(schema.name);
    if (schema.args.some((arg) => arg.isOut)) entry.outVariants.set(shapeOf(schema), schema);
    else entry.overloads.push(schema);
  }
  return new Map([...byName].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function methodNames(include) {
  const body = readFileSync(join(include, 'ATen/core/TensorBody.h'), 'utf8');
  const declared = [...body.matchAll(/^ {2}[\w:<>,&\s]+?\b(\w+)\((?!\*).*\) const(?: &)?;$/gm)].map((m) => m[1]);
  return new Set([...declared, ...MORE_METHODS]);
}

function functionNames(include) {
  const names = new Set(MORE_FUNCTIONS);
  for (const file of readdirSync(join(include, 'ATen/ops'))) {
    if (!/^[a-zA-Z]\w*\.h$/.test(file) || /_(native|ops|dispatch|meta)\.h$/.test(file)) continue;
    const text = readFileSync(join(include, 'ATen/ops', file), 'utf8');
    for (const [, name] of text.matchAll(/^inline [^(]*\b(\w+)\(/gm)) names.add(name);
  }
  return names;
}

/** Operators of two tensors that take a number in place of the first; read from the code that lets them. */
function numberFirstNames() {
  const source = readFileSync(join(root, 'lib/tensor/dispatch.ts'), 'utf8');
  return words(/NUMBER_FIRST = new Set\(\s*'([^']*)'/.exec(source)[1]);
}

function doc(name, overloads, indent) {
  const schemas = overloads.map((s) => `\`${s.declaration.replace(/\*\//g, '* /')}\``);
  const note = noteOf(name);
  if (note === undefined && schemas.length === 1) return `${indent}/** ${schemas[0]} */`;
  const lines = schemas.length === 1 ? schemas : schemas.map((s) => `- ${s}`);
  const text = note === undefined ? lines : [note, '', ...lines];
  return [`${indent}/**`, ...text.map((line) => `${indent} * ${line}`.trimEnd()), `${indent} */`].join('\n');
}

/** What an operator does; undefined for one that nobody has described. */
function noteOf(name) {
  const key = camel(name);
  const note = NOTES[key] ?? MORE_NOTES[key];
  if (note !== undefined) return note;
  if (SECOND_NAMES[key] !== undefined) return `Another name of \`${SECOND_NAMES[key]}\`. ${noteOf(SECOND_NAMES[key])}`;
  if (name.endsWith('_copy')) return `\`${camel(name.slice(0, -5))}\` as a copy, not a view.`;
  if (!/[a-z0-9]_$/.test(name)) return undefined;
  const original = noteOf(name.slice(0, -1));
  return original === undefined ? undefined : `In place: ${original[0].toLowerCase()}${original.slice(1)}`;
}

const header = (tuples) => `// Generated by scripts/generate-operators.mjs from the schemas of libtorch. Do not edit.
import type { DType } from '../dtype';
import type { DeviceName, Layout, MemoryFormat, Scalar } from '../schema-types';
import type { Generator } from '../random';
import type { Tensor } from '../core';
import type { ${[...tuples.interfaces.keys()].sort().join(', ')} } from './tuples';
`;

function writeMethods(grouped, names, tuples) {
  const body = [];
  const listed = [];
  for (const [name, { overloads }] of grouped) {
    if (!names.has(name) || HAND_WRITTEN_METHODS.has(name) || name.startsWith('_')) continue;
    const usable = overloads.filter((s) => s.args[0]?.name === 'self' && s.args[0].type.startsWith('Tensor'));
    const lines = [...new Set(usable.flatMap((s) => signatures(s, { asMethod: true, tuples })))];
    if (lines.length === 0) continue;
    listed.push(name);
    body.push(doc(name, usable, '  '), ...lines.map((line) => `  ${camel(name)}${line};`));
  }
  return `${header(tuples)}
/** Every operator that PyTorch has as a tensor method. */
export interface TensorMethods {
${body.join('\n')}
}

/** Operators that become methods: PyTorch's names, which \`camelCase\` turns into the names above. */
export const METHOD_NAMES =
  '${listed.join(' ')}';
`;
}

/** Signatures of all overloads of a function, with `out` where an overload of the same arguments has it. */
function functionLines({ overloads, outVariants }, numberFirst, tuples) {
  const lines = overloads.flatMap((s) => {
    const outVariant = outVariants.get(shapeOf(s));
    const plain = signatures(s, { outVariant, tuples });
    const ofTwoTensors = numberFirst && s.args[1]?.type === 'Tensor' && s.args[0].type === 'Tensor';
    return ofTwoTensors ? [...plain, ...signatures(s, { outVariant, tuples, numberFirst: true })] : plain;
  });
  return [...new Set(lines)];
}

function writeFunctions(grouped, names, tuples) {
  const body = [];
  const renamed = [];
  const modules = new Map(MODULES.map((module) => [module, []]));
  const numberFirst = numberFirstNames();
  for (const [name, entry] of grouped) {
    if (!names.has(name) || HAND_WRITTEN_FUNCTIONS.has(name) || name.startsWith('_') || KERNELS.test(name)) continue;
    const lines = functionLines(entry, numberFirst.has(name), tuples);
    if (lines.length === 0) continue;
    const key = camel(name);
    const identifier = reserved(key);
    const [, module, rest] = /^(linalg|fft|special)_(\w+)$/.exec(name) ?? [];
    if (identifier !== key) renamed.push(`export { ${identifier} as ${key} };`);
    const type =
      lines.length === 1 ? lines[0].replace(/\): (.*)$/, ') => $1') : `{\n${lines.map((l) => `  ${l};`).join('\n')}\n}`;
    const exported = identifier === key && module === undefined ? 'export ' : '';
    body.push(doc(name, entry.overloads, ''), `${exported}const ${identifier} = bind<${type}>('${name}');`);
    if (module !== undefined) modules.get(module).push(`  ${camel(rest)}: ${key},`);
  }
  const objects = [...modules].map(
    ([module, lines]) => `/** PyTorch's \`torch.${module}\`. */\nexport const ${module} = {\n${lines.join('\n')}\n};`,
  );
  return `${header(tuples)}import { bindFunction as bind } from '../dispatch';

${body.join('\n')}
${renamed.join('\n')}

${objects.join('\n\n')}
`;
}

function writeTuples(used) {
  const sorted = [...new Map(used.flatMap((tuples) => [...tuples.interfaces]))].sort(([a], [b]) => (a < b ? -1 : 1));
  return `// Generated by scripts/generate-operators.mjs from the schemas of libtorch. Do not edit.
// What operators with several named results return: arrays whose elements have names.
import type { NamedTuple } from '../named-tuple';
import type { Tensor } from '../core';

${sorted.map(([, text]) => text).join('\n')}
`;
}

/** The overloads of each aten operator: operators of the same overloads together, so that the file stays small. */
function writeOverloads(names) {
  const byOperator = new Map();
  for (const full of names.filter((name) => name.startsWith('aten::'))) {
    const [operator, overload = 'default'] = full.slice('aten::'.length).split('.');
    byOperator.set(operator, [...(byOperator.get(operator) ?? []), overload]);
  }
  const union = (words) => words.map((word) => `'${word}'`).join(' | ');
  const groups = new Map();
  for (const [operator, overloads] of [...byOperator].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const key = union(overloads.sort());
    groups.set(key, [...(groups.get(key) ?? []), operator]);
  }
  const parents = [...groups].map(([overloads, operators]) => `Record<${union(operators)}, ${overloads}>`);
  return `// Generated by scripts/generate-operators.mjs from the schemas of libtorch. Do not edit.

/** The overloads of every operator of aten, by PyTorch's names; \`default\` is the one without a name. */
export interface AtenOverloads
  extends
    ${parents.join(',\n    ')} {}
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
const overloads = declarations.map((declaration) => declaration.slice(0, declaration.indexOf('(')));
const grouped = group(declarations.filter((d) => d.startsWith('aten::')).map(parseSchema));
const [ofMethods, ofFunctions] = [new TupleTypes(), new TupleTypes()];
const files = {
  'methods.ts': writeMethods(grouped, methodNames(include), ofMethods),
  'functions.ts': writeFunctions(grouped, functionNames(include), ofFunctions),
  'tuples.ts': writeTuples([ofMethods, ofFunctions]),
  'overloads.ts': writeOverloads(overloads),
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
