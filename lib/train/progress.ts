import type { SingleBar } from 'cli-progress';
import { createRequire } from 'node:module';
import type { EvalEvent, SaveEvent, StepEvent } from './events';

/** Shows how training goes. */
export interface Progress {
  step(event: StepEvent): void;
  evaluated(event: EvalEvent): void;
  saved(event: SaveEvent): void;
  /** Makes room on the terminal for what the program prints itself. */
  clear(): void;
  stop(): void;
}

/** A bar on stderr where that is a terminal and this no build server, else a line for each evaluation and save. */
export function showProgress(startStep: number, maxSteps: number): Progress {
  const bar = process.stderr.isTTY && !process.env.CI;
  return bar ? new ProgressBar(startStep, maxSteps) : new ProgressLines(startStep + maxSteps);
}

export const noProgress: Progress = {
  step: () => undefined,
  evaluated: () => undefined,
  saved: () => undefined,
  clear: () => undefined,
  stop: () => undefined,
};

class ProgressBar implements Progress {
  private readonly bar: SingleBar;

  constructor(
    private readonly startStep: number,
    maxSteps: number,
  ) {
    // Loaded where a bar is shown: most programs that import torchbind show none.
    const cliProgress = createRequire(__filename)('cli-progress') as typeof import('cli-progress');
    this.bar = new cliProgress.SingleBar(
      {
        format: '{bar} {value}/{total} | loss {loss}{validation} | {speed} tokens/s | {eta_formatted} left',
        stream: process.stderr,
        barsize: 24,
        hideCursor: true,
        etaBuffer: 50,
      },
      cliProgress.Presets.shades_classic,
    );
    this.bar.start(maxSteps, 0, { loss: '-', validation: '', speed: '-' });
  }

  step({ step, loss, tokensPerSecond }: StepEvent): void {
    this.bar.update(step - this.startStep, { loss: loss.toFixed(3), speed: format(tokensPerSecond) });
  }

  evaluated({ valLoss }: EvalEvent): void {
    if (valLoss !== null) this.bar.update({ validation: `, validation ${valLoss.toFixed(3)}` });
  }

  saved(): void {}

  clear(): void {
    process.stderr.write('\r\u001b[K');
  }

  stop(): void {
    this.bar.stop();
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

  clear(): void {}

  stop(): void {}
}

function format(tokensPerSecond: number): string {
  return Math.round(tokensPerSecond).toLocaleString('en');
}
