/** Signals that are really sent to a process that trains. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { beforeAll, describe, expect, it } from 'vitest';
import { GPT } from '../../lib/gpt/gpt';
import { sharedTemporaryDirectory, temporaryDirectory } from '../helpers/tmp';

interface Line {
  type: 'start' | 'step' | 'save' | 'resume' | 'end' | 'error';
  step: number;
  loss?: number;
  stopped?: string;
  message?: string;
}

interface Life {
  lines: Line[];
  status: number | null;
  signal: NodeJS.Signals | null;
}

interface Run {
  maxSteps?: number;
  /** Step after which it hangs. */
  holdAt?: number;
  /** What to do after a line. */
  react?: (line: Line, send: (signal: NodeJS.Signals) => void) => void;
}

const child = path.join(__dirname, 'children/interrupted.cjs');
const shared = sharedTemporaryDirectory();
let reference: number[];

async function live(root: string, { maxSteps = 1e6, holdAt = -1, react }: Run): Promise<Life> {
  const args = [child, root, String(maxSteps), String(holdAt)];
  const running = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise<Pick<Life, 'status' | 'signal'>>((resolve) =>
    running.once('close', (status, signal) => resolve({ status, signal })),
  );
  const lines: Line[] = [];
  for await (const text of createInterface(running.stdout)) {
    const line = JSON.parse(text) as Line;
    lines.push(line);
    react?.(line, (signal) => void running.kill(signal));
  }
  return { lines, ...(await ended) };
}

const lossesOf = ({ lines }: Life): number[] => lines.flatMap(({ type, loss }) => (type === 'step' ? [loss!] : []));

beforeAll(async () => {
  reference = lossesOf(await live(path.join(shared, 'straight'), { maxSteps: 60 }));
}, 120_000);

/** Continues, and sees to it that the losses are those of the run that nobody interrupted. */
async function expectExactResume(root: string, interrupted: Life): Promise<void> {
  const { step } = await opened(root);
  const again = await live(root, { maxSteps: step + 5 });
  expect(again.lines[0]).toEqual({ type: 'start', step });
  expect([...lossesOf(interrupted).slice(0, step), ...lossesOf(again)]).toEqual(reference.slice(0, step + 5));
}

async function opened(root: string): Promise<{ step: number }> {
  const model = await GPT.load(path.join(root, 'run'));
  model.dispose();
  return { step: model.step! };
}

describe.runIf(process.platform !== 'win32')('a training process', () => {
  it.each([
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const)(
    'saves the step that it is at when %s comes, ends with %i, and resumes exactly',
    async (signal, status) => {
      const root = temporaryDirectory();
      const life = await live(root, { react: ({ type, step }, send) => type === 'step' && step === 7 && send(signal) });
      const last = life.lines.filter(({ type }) => type === 'step').at(-1)!.step;
      expect(life.lines.slice(-2)).toMatchObject([
        { type: 'save', step: last },
        { type: 'end', step: last, stopped: signal },
      ]);
      expect([life.status, life.signal]).toEqual([status, null]);
      expect(last).toBeLessThan(50); // and did not train on for long
      expect(readFileSync(path.join(root, 'run/.lock'), 'utf8')).toBe(''); // the note of its holder
      expect(await opened(root)).toEqual({ step: last });
      await expectExactResume(root, life);
    },
    120_000,
  );

  it('saves when SIGUSR1 comes, each time, and continues', async () => {
    const root = temporaryDirectory();
    const saves: number[] = [];
    const life = await live(root, {
      maxSteps: 60,
      react: ({ type, step }, send) => {
        if (type === 'step' && (step === 5 || step === 30)) send('SIGUSR1');
        if (type === 'save') saves.push(step);
      },
    });
    expect([life.status, life.lines.at(-1)]).toEqual([0, { type: 'end', step: 60, stopped: 'done' }]);
    // The signal may come an update or two after the line, on a machine that is busy some more.
    expect(saves).toHaveLength(3);
    expect(saves[0]).toBeGreaterThanOrEqual(5);
    expect(saves[1]).toBeGreaterThanOrEqual(30);
    expect(saves[2]).toBe(60);
    expect(lossesOf(life)).toEqual(reference);
  }, 120_000);

  it('ends at once when a second SIGINT comes, and the bundle before stands', async () => {
    const root = temporaryDirectory();
    const first = await live(root, {
      react: ({ type, step }, send) => type === 'step' && step === 7 && send('SIGTERM'),
    });
    const { step } = await opened(root);
    const began = performance.now();
    const second = await live(root, {
      holdAt: step + 3,
      react: (line, send) => {
        if (line.type !== 'step' || line.step !== step + 3) return;
        send('SIGINT');
        setTimeout(() => send('SIGINT'), 500); // Two that wait at the same time would be one.
      },
    });
    expect([first.status, second.status, second.signal]).toEqual([143, 130, null]);
    expect(performance.now() - began).toBeLessThan(90_000);
    expect(second.lines.at(-1)).toMatchObject({ type: 'step', step: step + 3 });
    expect(await opened(root)).toEqual({ step });
    await expectExactResume(root, first);
  }, 120_000);
});
