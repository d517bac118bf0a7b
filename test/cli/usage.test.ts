/** The command's manners: what it refuses, what it suggests, where things are printed. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { repositoryRoot } from '../helpers/python';
import { temporaryDirectory } from '../helpers/tmp';
import { commandIn, program } from './command';

const run = commandIn('/');
const readme = path.join(repositoryRoot, 'README.md');

test('unknown flags and commands are refused with a suggestion and status 2', () => {
  const flag = run(['train', '--max_iter', '3']);
  expect([flag.status, flag.stdout]).toEqual([2, '']);
  expect(flag.stderr).toContain("torchbind: unknown option '--max_iter'\n(Did you mean --max-iters?)");
  const command = run(['trian']);
  expect(command.status).toBe(2);
  expect(command.stderr).toMatch(/unknown command 'trian'\n\(Did you mean train\?\)/);
});

test.each([
  [['train', '--max-iters', '-1'], /--max-iters.*It is an integer of at least 0/],
  [['train', '--learning-rate', 'fast'], /It is a number of at least 0/],
  [['train', '--dropout', '2'], /It is a number from 0 to 1/],
  [['train', '--bias', 'perhaps'], /It is true or false/],
  [['train'], /Say what to train on: --input-file FILE/],
  [['train', '--input-file', '/no/text'], /Cannot read the input file: ENOENT/],
  [['train', '--tokenization', 'custom_bpe'], /--tokenizer tokenizer\.json/],
  [['train', '--model-name', 'a', '--enable-checkpoints'], /Give one or the other/],
  [['train', '--max-iters', '9', '--resume-training-steps', '3'], /Give one of them/],
  [['train', '--enable-checkpoints', '--input-file', readme, '--n-embd', '10', '--n-head', '3'], /--n-embd.*--n-head/],
  [['generate'], /Expected a model/],
  [['generate', 'a', '--model-name', 'b'], /Two models are named/],
  [['generate', 'nobody', '--checkpoint-dir', '/none'], /no model 'nobody' in \/none\. Models there: none/],
  [['serve', 'nobody', '--checkpoint-dir', '/none'], /no model 'nobody' in \/none/],
  [['serve', '--port', 'x'], /It is an integer/],
  [['evaluate', 'examples'], /Say on which text: --input-file FILE/],
  [['convert'], /Say what to convert/],
  [['download', 'owner/name'], /expected a model on the hub as hf:owner/],
  [['export', 'a'], /missing required argument 'target'/],
  [['export', 'a', 'b', '--dtype', 'int3'], /Allowed choices are float32/],
  [['export', 'examples', 'b', '--compress'], /ends in \.pt/],
  [['convert', 'a', '--layout', 'hf-gpt2'], /need a target/],
])('%j is refused', (args, message) => {
  const ran = run(args);
  expect(ran.stderr).toMatch(message);
  expect([ran.status, ran.stdout]).toEqual([2, '']);
});

test('flags go before variables, of which wrong values are named', () => {
  const wrong = run(['train'], { TRAINING_STEPS: 'many' });
  expect(wrong.stderr).toMatch(/'many' from env 'TRAINING_STEPS' is invalid/);
  const flag = run(['train', '--max-iters', '5', '--input-file', '/no/text'], { TRAINING_STEPS: '7' });
  expect(flag.stderr).toMatch(/\/no\/text/);
});

test('help teaches each command, in the documented spelling of flags', () => {
  const help = run(['--help']);
  expect(help.status).toBe(0);
  const names = [
    'train',
    'generate',
    'evaluate',
    'serve',
    'list',
    'inspect',
    'compare',
    'convert',
    'export',
    'download',
    'install',
    'doctor',
  ];
  for (const name of names) {
    expect(help.stdout).toMatch(new RegExp(`^  ${name} `, 'm'));
    const own = run([name, '--help']);
    expect([own.status, own.stderr]).toEqual([0, '']);
    expect(own.stdout).not.toMatch(/--\w+_\w+, --/);
  }
  expect(run(['train', '--help']).stdout).toMatch(/--max-iters <n> .*\n? *.*TRAINING_STEPS/);
  expect(run([]).stdout).toBe(help.stdout);
});

test('a model that cannot be opened is an error of status 1 that names the file', () => {
  const directory = temporaryDirectory();
  const file = path.join(directory, 'model.pt');
  writeFileSync(file, 'no checkpoint');
  const ran = run(['generate', file]);
  expect([ran.status, ran.stdout]).toEqual([1, '']);
  expect(ran.stderr).toContain('model.pt');
  expect(ran.stderr).not.toContain('    at ');
});

test('a reader that closes the pipe ends the command without an error', () => {
  const command = `"${process.execPath}" "${program}" train --help | head -n 1`;
  expect(execFileSync('bash', ['-o', 'pipefail', '-c', command], { encoding: 'utf8' })).toContain('Usage');
});

test('--version prints the version of the package, whatever MODE says', () => {
  const { version } = JSON.parse(readFileSync(path.join(repositoryRoot, 'package.json'), 'utf8')) as {
    version: string;
  };
  for (const variables of [{}, { MODE: 'resume' }]) {
    expect(run(['--version'], variables)).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' });
  }
});

test('CHECKPOINT_PATH alone generates, MODE=resume trains, and another MODE is wrong use', () => {
  const checkpoint = { CHECKPOINT_PATH: '/none/model.pt' };
  expect(run([], checkpoint).stderr).toMatch(/^torchbind: .*\/none\/model\.pt/);
  const trained = run([], { ...checkpoint, MODE: 'resume', TRAINING_DATA_SOURCE: readme });
  expect(trained.stderr).toMatch(/^torchbind: .*\/none\/model\.pt/);
  const wrong = run([], { ...checkpoint, MODE: 'infer' });
  expect([wrong.status, wrong.stdout]).toEqual([2, '']);
  expect(wrong.stderr).toBe('torchbind: Expected MODE=inference or MODE=resume, got MODE=infer.\n');
});

test('a cache that cannot be made is one line without a stack', () => {
  const directory = temporaryDirectory();
  writeFileSync(path.join(directory, 'torchbind'), ''); // where the cache's directory would be
  const ran = run(['install', '--variant', 'cpu'], { XDG_CACHE_HOME: directory, TORCHBIND_LIBTORCH: '' });
  expect(ran.status).toBe(1);
  expect(ran.stderr).toMatch(/^torchbind: The cache .* cannot be made: .*Set XDG_CACHE_HOME.*\n$/);
});
