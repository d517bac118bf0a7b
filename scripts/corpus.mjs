// Opens every file of a folder of real checkpoints, and prints how many of each kind open with the right values.
//
//   node scripts/corpus.mjs FOLDER [--list]
//
// FOLDER/MANIFEST.tsv has a line a file with the columns path, class, container and torch_2.13_weights_only_verdict.
// Values are right where Python reads the same (files whose verdict is "ok", with weights_only=True and never otherwise),
// where the bytes of the storages are those of the tensors (tar),
// or where files whose names differ only in "_protoN" and "_zip" have the same. Every file is opened read and mapped.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import torch from '../dist/index.js';
import { pythonEnvironment } from './python-env.mjs';

const [folder, ...flags] = process.argv.slice(2);
if (folder === undefined || folder.startsWith('-')) {
  console.error('Usage: node scripts/corpus.mjs FOLDER [--list]');
  process.exit(2);
}

const [header, ...lines] = readFileSync(path.join(folder, 'MANIFEST.tsv'), 'utf8').trimEnd().split('\n');
const columns = header.split('\t');
const files = lines.map((line) => Object.fromEntries(line.split('\t').map((cell, i) => [columns[i], cell])));

const python = pythonValues(
  files.filter((file) => file['torch_2.13_weights_only_verdict'].startsWith('ok') || file.container === 'tar'),
);
const siblings = new Map();
const table = new Map();
for (const file of files) {
  const result = await examine(file);
  if (flags.includes('--list')) console.log(`${file.path}\t${file.class}\t${result.verdict}\t${result.text}`);
  const key = `${file.class} ${file.container}`;
  const row = table.get(key) ?? { files: 0, right: 0, unconfirmed: 0, wrong: 0, refused: 0, broke: 0 };
  row.files++;
  row[result.verdict]++;
  table.set(key, row);
}
console.table(Object.fromEntries([...table].sort()));
const valid = files.filter((file) => file.class === 'valid').length;
const right = [...table].filter(([key]) => key.startsWith('valid ')).reduce((sum, [, row]) => sum + row.right, 0);
const others = [...table].filter(([key]) => !key.startsWith('valid '));
const loaded = others.reduce((sum, [, row]) => sum + row.files - row.refused, 0);
console.log(`valid: ${right} of ${valid} open with the right values (${((100 * right) / valid).toFixed(1)} %)`);
console.log(`others: ${loaded} of ${files.length - valid} load`);

/** right, wrong, unconfirmed (nothing to compare with), refused with a CheckpointError, or broke with another error. */
async function examine(file) {
  const name = path.join(folder, file.path);
  const open = file.container === 'safetensors' ? torch.loadSafetensors : torch.load;
  try {
    const values = [];
    for (const mmap of [false, true]) {
      await torch.tidy(async () => {
        values.push(describe(await open(name, { mmap })));
      });
    }
    // Python refuses tars; what it can say of them without unpickling is the bytes of their storages.
    if (file.container === 'tar') values.forEach((text, i) => (values[i] = text.match(/[0-9a-f]{16}/g).join(' ')));
    if (values[0] !== values[1]) return { verdict: 'wrong', text: 'mapped and read differ' };
    const family = path
      .basename(file.path)
      .replace(/_proto\d/, '')
      .replace(/_zip/, '');
    const key = family === path.basename(file.path) ? undefined : path.join(path.dirname(file.path), family);
    const expected = python[file.path] ?? siblings.get(key);
    if (key !== undefined && !siblings.has(key)) siblings.set(key, python[siblingWithAnswer(key)] ?? values[0]);
    const answer = expected ?? siblings.get(key);
    if (answer === undefined) return { verdict: 'unconfirmed', text: values[0].slice(0, 200) };
    return { verdict: answer === values[0] ? 'right' : 'wrong', text: values[0].slice(0, 200) };
  } catch (error) {
    const verdict = error instanceof torch.CheckpointError ? 'refused' : 'broke';
    return { verdict, text: `${error.code ?? error.name}: ${error.message}`.replaceAll('\n', ' ') };
  }
}

/** A file of the family that Python reads. */
function siblingWithAnswer(key) {
  return Object.keys(python).find((name) => name.replace(/_proto\d/, '').replace(/_zip/, '') === key);
}

/** Tensors by dtype, shape and the hash of their bytes; the rest as text. Keys in their order. */
function describe(value) {
  if (value instanceof torch.Tensor) {
    const bytes = Buffer.from(value.detach().toTypedArray().buffer);
    const digest = createHash('sha256').update(bytes).digest('hex').slice(0, 16);
    return `${value.dtype}[${value.shape.join(',')}]${digest}`;
  }
  if (value instanceof Map)
    return `{${[...value].map(([key, item]) => `${describe(key)}:${describe(item)}`).join(' ')}}`;
  if (Array.isArray(value)) return `[${value.map(describe).join(' ')}]`;
  if (typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype)
    return describe(new Map(Object.entries(value)));
  if (typeof value === 'number') return String(Math.round(value * 1e6));
  return String(value);
}

function pythonValues(known) {
  const { command, env } = pythonEnvironment();
  const script = fileURLToPath(new URL('corpus.py', import.meta.url));
  const input = JSON.stringify(known.map((file) => file.path));
  const options = { input, env: { ...process.env, ...env }, maxBuffer: 2 ** 28, stdio: ['pipe', 'pipe', 'ignore'] };
  return JSON.parse(execFileSync(command, [script, folder], options));
}
