import type { EvalEvent, SaveEvent, StepEvent } from './events';
import { canDrawStatus, StatusLine } from '../status-line';

/** Shows the progress of training. */
export interface Progress {
  step(event: StepEvent): void;
  evaluated(event: EvalEvent): void;
  saved(event: SaveEvent): void;
  /** A signal asks to stop. */
  stopping(signal: string): void;
  stop(): void;
}

/** A bar if stderr is a terminal that can draw one, otherwise a line for each evaluation and save. */
export function showProgress(startStep: number, maxSteps: number): Progress {
  return canDrawStatus() ? new ProgressBar(startStep, maxSteps) : new ProgressLines(startStep + maxSteps);
}

export const noProgress: Progress = {
  step: () => undefined,
  evaluated: () => undefined,
  saved: () => undefined,
  stopping: () => undefined,
  stop: () => undefined,
};

const BAR_CELLS = 24;
const FEWEST_CELLS = 8;

class ProgressBar implements Progress {
  private readonly line = new StatusLine((columns) => this.text(columns));
  private readonly began = performance.now();
  private readonly lastStep: number;
  private at: number;
  private loss = '-';
  private validation = '';
  private speed = 0;
  /** The first update that was seen: the time left is estimated from there, without what precedes training. */
  private first: { step: number; time: number } | undefined;
  private isOver = false;

  constructor(
    private readonly startStep: number,
    maxSteps: number,
  ) {
    this.at = startStep;
    this.lastStep = startStep + maxSteps;
    this.line.draw();
  }

  step({ step, loss, tokensPerSecond }: StepEvent): void {
    this.at = step;
    this.loss = loss.toFixed(3);
    this.speed = tokensPerSecond;
    this.first ??= { step, time: performance.now() };
    this.line.draw();
  }

  evaluated({ valLoss }: EvalEvent): void {
    if (valLoss !== null) this.validation = `, validation ${valLoss.toFixed(3)}`;
    this.line.draw();
  }

  saved(): void {}

  stopping(signal: string): void {
    announceStop(signal);
  }

  stop(): void {
    this.isOver = true;
    this.line.end();
  }

  /** As much as fits: of a narrow terminal's line the bar goes first, then speed, time and validation loss. */
  private text(columns: number): string {
    const count = `${this.at}/${this.lastStep}`;
    const speed = this.speed === 0 ? [] : [`${format(this.speed)} tokens/s`];
    const choices = [
      [count, `loss ${this.loss}${this.validation}`, ...speed, this.time()],
      [count, `loss ${this.loss}${this.validation}`, this.time()],
      [count, `loss ${this.loss}`, this.time()],
      [count, `loss ${this.loss}`],
      [count],
    ];
    const texts = choices.map((parts) => parts.filter((part) => part !== '').join(' | '));
    const text = texts.find(({ length }) => length <= columns) ?? '';
    const cells = Math.min(BAR_CELLS, columns - text.length - 1);
    return cells < FEWEST_CELLS ? text : `${this.bar(cells)} ${text}`;
  }

  private bar(cells: number): string {
    const part = (this.at - this.startStep) / Math.max(1, this.lastStep - this.startStep);
    const full = Math.floor(cells * Math.min(1, Math.max(0, part)));
    return '█'.repeat(full) + '░'.repeat(cells - full);
  }

  /** The time left, or once training has stopped the time taken. */
  private time(): string {
    const now = performance.now();
    if (this.isOver) return formatDuration((now - this.began) / 1000);
    if (this.first === undefined || this.at <= this.first.step) return '';
    const perStep = (now - this.first.time) / (this.at - this.first.step);
    return `${formatDuration((perStep * (this.lastStep - this.at)) / 1000)} left`;
  }
}

class ProgressLines implements Progress {
  private speed = 0;

  constructor(private readonly lastStep: number) {}

  step({ tokensPerSecond }: StepEvent): void {
    this.speed = tokensPerSecond;
  }

  evaluated({ step, trainLoss, valLoss }: EvalEvent): void {
    const validation = valLoss === null ? '' : `, validation loss ${valLoss.toFixed(4)}`;
    const speed = this.speed === 0 ? '' : `, ${format(this.speed)} tokens/s`;
    process.stderr.write(`step ${step}/${this.lastStep}: train loss ${trainLoss.toFixed(4)}${validation}${speed}\n`);
  }

  saved({ step, directory }: SaveEvent): void {
    process.stderr.write(`step ${step}/${this.lastStep}: saved ${directory}\n`);
  }

  stopping(signal: string): void {
    announceStop(signal);
  }

  stop(): void {}
}

/** An update and a save may take a while, in which it must not look as if the signal was lost. */
function announceStop(signal: string): void {
  process.stderr.write(
    `${signal}: stopping after this update, with a save. Send it again to stop immediately, without saving.\n`,
  );
}

function format(tokensPerSecond: number): string {
  return Math.round(tokensPerSecond).toLocaleString('en');
}

/** The two largest units of a time: 7s, 2m05s, 3h10m, 4d02h. */
function formatDuration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${twoDigits(whole % 60)}s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 1440) return `${Math.floor(minutes / 60)}h${twoDigits(minutes % 60)}m`;
  const hours = Math.floor(minutes / 60);
  return `${Math.floor(hours / 24)}d${twoDigits(hours % 24)}h`;
}

function twoDigits(value: number): string {
  return String(value).padStart(2, '0');
}
