import { canDrawStatus, StatusLine } from '../status-line';

/** Tells a person at a terminal what set-up does; on build servers and in pipes, one line a step. */
export interface Reporter {
  /** A step begins. */
  step(text: string): void;
  /** The step is `done` of `total`; `total` is 0 where it is not known. */
  progress(done: number, total: number, unit: 'bytes' | 'files'): void;
}

/** Says nothing. */
export const silentReporter: Reporter = { step: () => undefined, progress: () => undefined };

/** Writes to stderr, so that stdout stays free for results. */
export function terminalReporter(): Reporter {
  let text = '';
  let line: StatusLine | undefined;
  return {
    step(name) {
      line?.end();
      line = undefined;
      process.stderr.write(`torchbind: ${name}\n`);
    },
    progress(done, total, unit) {
      text = `  ${progressText(done, total, unit)}`;
      if (line === undefined && !canDrawStatus()) return;
      line ??= new StatusLine(() => text, false);
      line.draw();
    },
  };
}

function progressText(done: number, total: number, unit: 'bytes' | 'files'): string {
  const amount = (value: number): string => (unit === 'bytes' ? `${(value / 1e6).toFixed(1)} MB` : `${value} files`);
  if (total <= 0) return amount(done);
  return `${Math.floor((100 * done) / total)} %, ${amount(done)} of ${amount(total)}`;
}
