/** Every workflow that the programs of seeds 002 and 004 show, as commands; Python reads what comes out. */
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { load, save } from '../../lib/formats/pt';
import { GPT } from '../../lib/gpt';
import { tensor } from '../../lib/tensor/creation';
import { tidy } from '../../lib/tensor/scope';
import type { Tensor } from '../../lib/tensor/tensor';
import { PythonSession, pythonTimeout } from '../helpers/python';
import { sharedTemporaryDirectory, temporaryDirectory } from '../helpers/tmp';
import { commandIn, interrupt, type Ran } from './command';

const samples = sharedTemporaryDirectory();
let python: PythonSession;
/** What Python's models were trained on; its characters are their vocabulary. */
const text = 'the quick brown fox jumps over the lazy dog. été\n'.repeat(20);
const small = '--n_embd 12 --n_head 2 --n_layer 2 --block_size 8 --batch_size 4 --eval_iters 2 --eval_interval 5'.split(
  ' ',
);
const quick = ['--eval-interval', '0', '--batch-size', '4'];
const timeout = 120_000;

beforeAll(async () => {
  python = await PythonSession.start(path.join(__dirname, 'cli.py'));
  await python.ask('write', samples);
}, pythonTimeout);

afterAll(() => python.end());

/** A directory with a text and copies of what Python left, and the command in it. */
function workplace(...copies: ('checkpoints' | 'numbered' | 'gpt2')[]): {
  cwd: string;
  run: ReturnType<typeof commandIn>;
} {
  const cwd = temporaryDirectory();
  writeFileSync(path.join(cwd, 'dante.txt'), text);
  for (const name of copies) cpSync(path.join(samples, name), path.join(cwd, name), { recursive: true });
  return { cwd, run: commandIn(cwd) };
}

function expectDone(ran: Ran): string {
  expect(ran.status, ran.stderr).toBe(0);
  return ran.stdout;
}

function lines(ran: Ran): Record<string, unknown>[] {
  return expectDone(ran)
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe('models with a name (seed 002)', () => {
  it('trains, continues, and Python continues from there', { timeout }, async () => {
    const { cwd, run } = workplace();
    const train = ['train', '--model_name', 'dante', '--input_file', 'dante.txt', '--tokenization', 'char'];
    const first = run([...train, ...small, '--max_iters', '10', '--learning_rate', '1e-2']);
    expect(expectDone(first)).toMatch(/step 0: train loss \d.*\n(.*\n)*step 10: saved checkpoints\/dante\n/);
    expect(first.stderr).toContain('dante, a new model');
    const second = run([...train, ...small, '--max_iters', '14', '--n_embd', '24', '--json']);
    const events = lines(second);
    expect(events.filter(({ type }) => type === 'step').map(({ step }) => step)).toEqual([11, 12, 13, 14]);
    expect(events.at(-1)).toMatchObject({ type: 'end', step: 14, stopped: 'done' });
    expect(second.stderr).toMatch(/--n-embd 24 is not used: the model was made with 12/);
    expect(second.stderr).toMatch(/continues from step 10/);
    const read = await python.askJson('read', path.join(cwd, 'checkpoints/dante'));
    expect(read).toEqual({ step: 14, first: 'token_embedding_table.weight', moments: 38 });
    const again = run([...train, ...small, '--max_iters', '14']);
    expect(again.stderr).toContain('Step 14 is reached already');
    expect([again.status, again.stdout]).toEqual([0, '']);
  });

  it('continues from weights that another program replaced only where it is told to', { timeout }, async () => {
    const { cwd, run } = workplace();
    const train = ['train', '--model-name', 'dante', '--input-file', 'dante.txt', '--tokenization', 'char'];
    expectDone(run([...train, ...small, '--max-iters', '2']));
    const file = path.join(cwd, 'checkpoints/dante/model.pt');
    await save(
      new Map(
        [...((await load(file)) as Map<string, Tensor>)].map(([name, values]) => [
          name,
          name.endsWith('tril') ? values : values.neg(),
        ]),
      ),
      file,
    );
    const refused = run([...train, '--max-iters', '3', ...quick]);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(/expected weights, optimizer and step of one save.* give --allow-mixed\.$/m);
    expect(run(['convert', 'checkpoints/dante', 'copy']).stderr).toMatch(/give --allow-mixed/);
    const mixed = run([...train, '--max-iters', '3', ...quick, '--allow-mixed']);
    expectDone(mixed);
    expect(mixed.stderr).toMatch(/continues from step 2/);
  });

  it('starts from another model, whose tokenizer it takes', { timeout }, () => {
    const { cwd, run } = workplace('checkpoints');
    const args = ['train', '--model-name', 'poet', '--init-from-model', 'python', '--input-file', 'dante.txt'];
    const ran = run([...args, '--max-iters', '2', ...quick]);
    expectDone(ran);
    expect(ran.stderr).toContain('from the weights of checkpoints/python');
    const config = (name: string): unknown =>
      JSON.parse(readFileSync(path.join(cwd, 'checkpoints', name, 'config.json'), 'utf8'));
    expect(config('poet')).toMatchObject({ n_embd: 12, block_size: 8 });
    const wrong = run(['train', '--model-name', 'x', '--init-from-model', 'mute', '--input-file', 'dante.txt']);
    expect(wrong.status).toBe(1);
    expect(wrong.stderr).toContain('saved without a tokenizer');
  });

  it('generates from a bundle, from a kept step and from a legacy file', { timeout }, () => {
    const { run } = workplace('checkpoints');
    const args = ['--prompt', 'the ', '--max-new-tokens', '12', '--greedy'];
    const bundle = expectDone(run(['generate', '--model_name', 'python', ...args]));
    expect(bundle).toMatch(/^the [\s\S]{12}\n$/u);
    const legacy = run(['generate', '--model_name', 'finished', '--legacy_checkpoint', 'final.pt', ...args]);
    expect(expectDone(legacy)).toBe(bundle);
    const json = run(['generate', 'python', '--json', ...args]);
    expect(JSON.parse(expectDone(json))).toEqual({
      model: 'checkpoints/python',
      step: 3,
      prompt: 'the ',
      text: bundle.slice(0, -1),
    });
    const sampled = [
      'generate',
      'python',
      '--seed',
      '3',
      '--temperature',
      '1.5',
      '--top-k',
      '5',
      '--max-new-tokens',
      '9',
    ];
    expect(expectDone(run(sampled))).toBe(expectDone(run(sampled)));
  });

  it('continues from a legacy file, saves the new form and keeps the old file', { timeout }, async () => {
    const { cwd, run } = workplace('checkpoints');
    const old = readFileSync(path.join(cwd, 'checkpoints/old/latest.pt'));
    const ran = run(['train', '--model_name', 'old', '--input_file', 'dante.txt', '--max_iters', '5', ...quick]);
    expectDone(ran);
    expect(ran.stderr).toContain('continues from step 3 of checkpoints/old/latest.pt');
    expect(readFileSync(path.join(cwd, 'checkpoints/old/latest.pt'))).toEqual(old);
    expect(await python.askJson('read', path.join(cwd, 'checkpoints/old'))).toMatchObject({ step: 5 });
  });

  it('converts one model and all of them, and says before what it would do', { timeout }, () => {
    const { cwd, run } = workplace('checkpoints');
    const planned = JSON.parse(expectDone(run(['convert', '--all', '--dry-run', '--json']))) as { written: boolean }[];
    expect(planned).toHaveLength(3);
    expect(planned.every(({ written }) => !written)).toBe(true);
    expect(existsSync(path.join(cwd, 'checkpoints/old/config.json'))).toBe(false);
    expect(expectDone(run(['convert', '--model_name', 'finished', '--checkpoint', 'final.pt']))).toContain('converted');
    expect(existsSync(path.join(cwd, 'checkpoints/finished/final.pt'))).toBe(true);
    expect(run(['convert', '--model_name', 'finished']).stderr).toContain('already holds a bundle');
    const all = expectDone(run(['convert', '--all']));
    expect(all).toMatch(/old\/latest\.pt: converted to a bundle in checkpoints\/old/);
    expect(all).toMatch(/finished\/final\.pt: left alone/);
    expectDone(run(['generate', 'old', '--max-new-tokens', '2']));
  });

  it('inspects a bundle and a legacy file', { timeout }, () => {
    const { run } = workplace('checkpoints');
    const report = expectDone(run(['inspect', '--model_name', 'python', '--verify']));
    expect(report).toMatch(/^step +3$/m);
    expect(report).toMatch(/n_embd 12/);
    const json = run(['inspect', '--model_name', 'finished', '--legacy_checkpoint', 'final.pt', '--json']);
    expect(JSON.parse(expectDone(json))).toMatchObject({ family: { name: 'mypt' }, config: { n_head: 2 } });
  });

  it('Ctrl-C saves the current step and ends with status 130', { timeout }, async () => {
    const { cwd, run } = workplace();
    const args = ['train', '--model-name', 'dante', '--input-file', 'dante.txt', '--tokenization', 'char', ...small];
    const ran = await interrupt(cwd, [...args, '--max-iters', '100000', '--json'], '"step":7,', 'SIGINT');
    expect(ran.status, ran.stderr).toBe(130);
    const events = ran.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { type: string; step: number });
    const last = events.filter(({ type }) => type === 'step').at(-1)!;
    expect(events.at(-1)).toMatchObject({ type: 'end', stopped: 'SIGINT', step: last.step });
    const listed = JSON.parse(expectDone(run(['list', '--json']))) as { kind: string; step: number }[];
    expect(listed.find(({ kind }) => kind === 'bundle')!.step).toBe(last.step);
  });
});

describe('single files (seed 004)', () => {
  const variables = {
    ENABLE_CHECKPOINTS: 'true',
    CHECKPOINT_INTERVAL: '4',
    CHECKPOINT_DIR: 'checkpoints',
    MODEL_TYPE: 'from_scratch',
    TRAINING_STEPS: '6',
    TRAINING_DATA_SOURCE: 'dante.txt',
    BATCH_SIZE: '4',
    BLOCK_SIZE: '8',
    EVAL_ITERS: '1',
    LOG_DIR: 'logs',
  };
  const size = ['--n-embd', '12', '--n-head', '2', '--n-layer', '1'];

  it('trains, lists, and generates from the newest file of a pattern', { timeout }, async () => {
    const { cwd, run } = workplace();
    expectDone(run(['train', ...size], variables));
    const names = readdirSync(path.join(cwd, 'checkpoints')).sort();
    expect(names).toHaveLength(2);
    expect(names[0]).toMatch(/^checkpoint_bigram_dante_step000004_\d{8}_\d{6}\.pt$/);
    expect(readdirSync(path.join(cwd, 'logs'))).toContain('metrics.jsonl');
    expect(readFileSync(path.join(cwd, 'logs/metrics.html'), 'utf8')).toContain('<h1>bigram on dante.txt</h1>');
    for (const [i, step] of [4, 6].entries()) {
      const read = await python.askJson<{ keys: string[] }>('single', path.join(cwd, 'checkpoints', names[i]!));
      expect(read).toMatchObject({ step, moments: 22, hyperparameters: { training_steps: 6, n_embd: 12 } });
      expect(read.keys).toEqual(expect.arrayContaining(['vocab_size', 'block_size', 'batch_size']));
    }
    const listed = expectDone(run(['list', '--source', 'dante', '--step', '6']));
    expect(listed.trim().split('\n')).toHaveLength(2);
    const pattern = { CHECKPOINT_PATH: 'checkpoints/checkpoint_bigram_*.pt', PROMPT: 'the ', MAX_NEW_TOKENS: '5' };
    const written = expectDone(run([], pattern)); // MODE=inference goes without saying
    expect(written).toMatch(/^the [\s\S]{5}\n$/u);
    const refused = run([], { ...pattern, PROMPT: 'the \u{1F600}' });
    expect([refused.status, refused.stdout]).toEqual([2, '']);
    expect(refused.stderr).toMatch(/^torchbind: --prompt: .*U\+1F600/);
    // The checkpoint names the text that it was trained on.
    const resume = { MODE: 'resume', CHECKPOINT_PATH: pattern.CHECKPOINT_PATH, RESUME_TRAINING_STEPS: '1' };
    const resumed = run(['--json', '--eval-interval', '0'], resume);
    expect(lines(resumed).at(-1)).toMatchObject({ step: 7 });
    rmSync(path.join(cwd, 'dante.txt'));
    const lost = run([], resume);
    expect([lost.status, lost.stdout]).toEqual([2, '']);
    expect(lost.stderr).toMatch(/was trained on dante\.txt, which was not found.*--input-file FILE/);
  });

  it('continues with a file of Python with other steps and another learning rate', { timeout }, async () => {
    const { cwd, run } = workplace('numbered');
    const ran = run(['--json', '--eval-interval', '0'], {
      MODE: 'resume',
      CHECKPOINT_PATH: 'numbered/checkpoint_bigram_carolyn_hax_step002000_*.pt',
      CHECKPOINT_DIR: 'numbered',
      RESUME_TRAINING_STEPS: '3',
      RESUME_LEARNING_RATE: '1e-4',
      TRAINING_DATA_SOURCE: 'dante.txt',
    });
    const events = lines(ran);
    expect(events.filter(({ type }) => type === 'step').map(({ learningRate }) => learningRate)).toEqual([
      1e-4, 1e-4, 1e-4,
    ]);
    expect(ran.stderr).toContain('holds no tokenizer; its 30 characters are taken from the text');
    const { saved } = events.at(-1) as { saved: string };
    expect(path.basename(saved)).toMatch(/^checkpoint_bigram_dante_step002003_/);
    expect(await python.askJson('single', path.join(cwd, saved))).toMatchObject({ step: 2003, rate: 1e-4 });
  });

  it('trains GPT-2 of Hugging Face, and compares what two models write', { timeout }, async () => {
    const { cwd, run } = workplace('gpt2', 'numbered');
    const gpt2 = { ...variables, MODEL_TYPE: 'gpt2', GPT2_MODEL_NAME: 'gpt2', EVAL_INTERVAL: '0' };
    expectDone(run(['train', '--batch-size', '1'], { ...gpt2, TRAINING_STEPS: '2', CHECKPOINT_INTERVAL: '1' }));
    const files = readdirSync(path.join(cwd, 'checkpoints')).sort();
    expect(files[0]).toMatch(/^checkpoint_gpt2_dante_step000001_/);
    const [first, second] = files.map((name) => path.join('checkpoints', name));
    const read = await python.askJson('single', path.join(cwd, first!));
    expect(read).toMatchObject({ step: 1, weights: ['model.transformer.wte.weight', 'model.transformer.wpe.weight'] });
    const texts = run(['compare', first!, second!, '--prompt', 'Dear', '--max-new-tokens', '4', '--json']);
    const { written } = JSON.parse(expectDone(texts)) as { written: { text: string }[] };
    expect(written.map((entry) => entry.text.startsWith('Dear'))).toEqual([true, true]);
    const [a, b] = readdirSync(path.join(cwd, 'numbered')).map((entry) => path.join('numbered', entry));
    expect(expectDone(run(['compare', a!, b!]))).toMatch(/42 of 42 tensors equal/);
  });

  interface Resumed {
    loss: number;
    after: number;
    batch: [number[][], number[][]];
  }

  /** The loss of a batch in evaluation mode. */
  async function lossOf(file: string, [idx, targets]: Resumed['batch']): Promise<number> {
    const model = await GPT.load(file);
    model.eval();
    try {
      return tidy(() => Number(model.forward(tensor(idx), tensor(targets)).loss!.item()));
    } finally {
      model.dispose();
    }
  }

  it.each([
    ['GPT-2', 'gpt2', 'false'],
    ['GPT-2 with LoRA', 'gpt2', 'true'],
    ['a model from scratch with LoRA', 'from_scratch', 'true'],
  ])('%s: Python resumes what was trained here, and Node what Python saved', { timeout }, async (_, type, lora) => {
    const { cwd, run } = workplace('gpt2');
    const gpt2 = path.join(cwd, 'gpt2');
    const facts = { MODEL_TYPE: type, GPT2_MODEL_NAME: gpt2, USE_LORA: lora, LORA_RANK: '2', LORA_DROPOUT: '0' };
    const sizes = { N_EMBD: '12', N_HEAD: '2', N_LAYER: '2', BLOCK_SIZE: '8', DROPOUT: '0', BATCH_SIZE: '1' };
    const env = { ...variables, ...facts, ...(type === 'gpt2' ? { BATCH_SIZE: '1' } : sizes), EVAL_INTERVAL: '0' };
    expectDone(run(['train'], { ...env, TRAINING_STEPS: '1' }));
    const [name] = readdirSync(path.join(cwd, 'checkpoints'));
    const file = path.join(cwd, 'checkpoints', name!);
    const resumed = await python.askJson<Resumed>('resume', file);
    // Float32: the sides sum in other orders.
    expect(Math.abs((await lossOf(file, resumed.batch)) - resumed.loss)).toBeLessThan(1e-4);
    const theirs = file.replace(/\.pt$/, '-resumed.pt');
    expect(Math.abs((await lossOf(theirs, resumed.batch)) - resumed.after)).toBeLessThan(1e-4);
    const more = { CHECKPOINT_PATH: theirs, MODE: 'resume', RESUME_TRAINING_STEPS: '1', ...env };
    expectDone(run(['train'], more));
    if (type === 'gpt2') {
      const said = expectDone(run(['generate', theirs, '--prompt', 'Dear', '--max-new-tokens', '2']));
      expect(said).toMatch(/^Dear/); // GPT-2's tokenizer, although the file says 'character'
    }
  });

  it('lists by model, source and step', { timeout }, () => {
    const { run } = workplace('numbered', 'checkpoints');
    const found = (...args: string[]): unknown[] =>
      JSON.parse(expectDone(run(['list', 'numbered', '--json', ...args]))) as unknown[];
    expect(found()).toHaveLength(2);
    expect(found('--model-name', 'bigram', '--source', 'carolyn', '--step', '2000')).toHaveLength(1);
    expect(found('--model-name', 'gpt2')).toEqual([]);
    const models = run(['list']);
    expect(expectDone(models)).toMatch(/^model +kind .*\n(.*\n)*python +bundle +3 /m);
  });
});
