/** What training leaves on a terminal: a pseudo-terminal's output, on a screen that is emulated. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { pythonJson, repositoryRoot } from '../helpers/python';
import { temporaryDirectory } from '../helpers/tmp';
import { environment, program } from './command';
import { Screen } from './screen';

const timeout = 120_000;

interface Shown {
  status: number;
  lines: string[];
  cursor: [line: number, offset: number];
}

interface Job {
  cwd?: string;
  columns?: number;
  variables?: NodeJS.ProcessEnv;
  /** What happens once the output, since the action before, holds a text. */
  actions?: { after: string; send?: string; columns?: number }[];
}

/** Runs a command on a terminal, and tells what its screen shows at the end. */
async function onTerminal(command: string[], job: Job = {}): Promise<Shown> {
  const { cwd = repositoryRoot, columns = 100, variables = {}, actions = [] } = job;
  const env = environment({ TERM: 'xterm-256color', ...variables });
  const input = JSON.stringify({ command, cwd, columns, env, actions });
  const script = path.join(__dirname, 'terminal.py');
  const { status, pieces } = await pythonJson<{ status: number; pieces: { columns: number; output: string }[] }>(
    script,
    [],
    input,
  );
  const screen = new Screen(columns);
  for (const piece of pieces) {
    screen.resize(piece.columns);
    screen.write(piece.output);
  }
  return { status, lines: screen.lines, cursor: screen.cursor };
}

const size =
  '--n-embd 12 --n-head 2 --n-layer 1 --block-size 8 --batch-size 2 --eval-iters 1 --eval-interval 5 --tokenization char';
const losses = String.raw`train loss \d\.\d{4}, validation loss \d\.\d{4}`;

/** Trains a small model in a shell, with output before and after. */
function train(flags: string, job: Job = {}): Promise<Shown> {
  const cwd = temporaryDirectory();
  writeFileSync(path.join(cwd, 'dante.txt'), 'the quick brown fox jumps over the lazy dog.\n'.repeat(20));
  const command = `"${process.execPath}" "${program}" train --model-name dante --input-file dante.txt ${size} ${flags}`;
  return onTerminal(['sh', '-c', `trap : INT; echo before; ${command}; echo "after $?"`], { cwd, ...job });
}

/** Runs code on a terminal that has `line`, a status line, which shows `text` and dots as far as they fit. */
function withStatusLine(code: string, job: Job = {}): Promise<Shown> {
  const module = JSON.stringify(path.join(repositoryRoot, 'dist/status-line.js'));
  const script = `
    const { StatusLine } = require(${module});
    let text = 'status';
    const line = new StatusLine((columns) => (text + '.'.repeat(200)).slice(0, columns));
    const { setTimeout: sleep } = require('node:timers/promises');
    (async () => { ${code} })();`;
  // Node colours the stacks that it prints itself.
  return onTerminal([process.execPath, '-e', script], { columns: 30, variables: { NO_COLOR: '1' }, ...job });
}

describe('training on a terminal', () => {
  it('leaves its log and the bar whole, and the cursor on a line of its own', { timeout }, async () => {
    const { lines, cursor } = await train('--max-iters 10');
    const [before, model, ...rest] = lines;
    expect([before, model]).toEqual(['before', expect.stringMatching(/^dante, a new model: .* on cpu$/)]);
    // A save is reported when it is whole, which is after later updates.
    const log = rest.slice(0, -3);
    expect(log.filter((line) => line.includes('saved'))).toEqual([
      'step 5: saved checkpoints/dante',
      'step 10: saved checkpoints/dante',
    ]);
    expect(log.filter((line) => !line.includes('saved'))).toEqual(
      [0, 5, 10].map((step) => expect.stringMatching(new RegExp(`^step ${step}: ${losses}$`)) as string),
    );
    expect(rest.slice(-3)).toEqual([
      expect.stringMatching(/^█{24} 10\/10 \| loss \d\.\d{3}, validation \d\.\d{3} \| [\d,]+ tokens\/s \| \w+s$/),
      'after 0',
      '',
    ]);
    expect(cursor).toEqual([lines.length - 1, 0]);
  });

  it('leaves them whole after Ctrl-C too', { timeout }, async () => {
    const actions = [{ after: 'step 5: saved', send: '\u0003' }];
    const { lines, cursor } = await train('--max-iters 1000000', { actions });
    const [bar, stopped, after, end] = lines.slice(-4);
    expect(bar).toMatch(/^░{24} \d+\/1000000 \| loss \d\.\d{3}, validation \d\.\d{3} \|/);
    const step = /(\d+)\//.exec(bar!)![1];
    expect([stopped, after, end]).toEqual([`stopped (SIGINT) at step ${step}`, 'after 130', '']);
    expect(lines).toContain(`step ${step}: saved checkpoints/dante`);
    expect(lines.filter((line) => line.includes('SIGINT: stopping after this update, with a save.')).length).toBe(1);
    expect(cursor).toEqual([lines.length - 1, 0]);
  });

  it('shows what fits on a narrow one, and lines without a bar on a build server', { timeout }, async () => {
    const narrow = await train('--max-iters 5', { columns: 30 });
    expect(narrow.lines.slice(-3)).toEqual([expect.stringMatching(/^5\/5 \| loss \d\.\d{3} \| \w+s$/), 'after 0', '']);
    const server = await train('--max-iters 5', { variables: { CI: 'true' } });
    expect(server.lines.join('\n')).not.toContain('tokens/s');
    expect(server.lines.slice(-3)).toEqual(['step 5: saved checkpoints/dante', 'after 0', '']);
  });
});

describe('a status line', () => {
  const status = `status${'.'.repeat(23)}`;

  it('gives way to what the program prints, and waits for the end of a line', async () => {
    const { lines, cursor } = await withStatusLine(`
      line.draw();
      console.log('to stdout, longer than the terminal is wide');
      console.error('to stderr');
      await sleep(150); // drawn again
      process.stdout.write('a line ');
      line.draw();
      await sleep(150);
      process.stdout.write('in parts\\n');
      text = 'end';
      line.end();
      console.log('after');`);
    const end = `end${'.'.repeat(26)}`;
    expect(lines).toEqual([
      'to stdout, longer than the terminal is wide',
      'to stderr',
      'a line in parts',
      end,
      'after',
      '',
    ]);
    expect(cursor).toEqual([5, 0]);
  });

  it.each([
    ['the process ends', 'line.draw(); process.exit();'],
    ['an error ends the process', "line.draw(); throw new RangeError('out of range');"],
    ['a signal that nobody takes ends it', "line.draw(); process.kill(process.pid, 'SIGTERM'); await sleep(60_000);"],
    ['the program wrote part of a line', "line.draw(); process.stdout.write('part'); process.exit();"],
  ])('leaves the cursor on a line of its own when %s', async (_, code) => {
    const { lines, cursor } = await withStatusLine(code);
    expect(lines).toContain(status);
    expect(lines.filter((shown) => shown.includes('status') && shown !== status)).toEqual([]);
    expect(cursor).toEqual([lines.length - 1, 0]);
    expect(lines.at(-1)).toBe('');
  });

  it('leaves a signal to the program where that takes it', async () => {
    const { lines, status: exit } = await withStatusLine(`
      process.on('SIGTERM', () => { console.log('taken'); setTimeout(() => process.exit(3), 150); });
      line.draw();
      process.kill(process.pid, 'SIGTERM');
      await sleep(60_000);`);
    expect([lines, exit]).toEqual([['taken', status, ''], 3]);
  });

  it('is erased at the end where it is no result, as the progress of set-up', async () => {
    const report = JSON.stringify(path.join(repositoryRoot, 'dist/install/report.js'));
    const { lines } = await withStatusLine(`
      line.end();
      const { terminalReporter } = require(${report});
      const { step, progress } = terminalReporter();
      step('fetching');
      progress(1, 2, 'files');
      await sleep(150);
      console.log('between');
      await sleep(150);
      step('done');
      progress(2, 2, 'files');`);
    expect(lines).toEqual([status, 'torchbind: fetching', 'between', 'torchbind: done', '']);
  });

  it('leaves nothing of itself above when the terminal becomes narrower', async () => {
    const { lines } = await withStatusLine(
      `
      console.log('before');
      process.stderr.once('resize', () => process.exit());
      await sleep(150);
      line.draw();
      await sleep(60_000);`,
      { actions: [{ after: '....', columns: 12 }] },
    );
    expect(lines).toEqual(['before', 'status.....', '']);
  });
});
