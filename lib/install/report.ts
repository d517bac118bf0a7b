/** Tells a person at a terminal what set-up does; in CI and in pipes, one line a step. */
export interface Reporter {
  /** A step begins. */
  step(text: string): void;
  /** The step is `done` of `total`; `total` is 0 where it is not known. */
  progress(done: number, total: number, unit: 'bytes' | 'files'): void;
}

/** Says nothing. */
export const silentReporter: Reporter = { step: () => undefined, progress: () => undefined };

/** Writes to stderr, so that stdout stays free for results. */
export function terminalReporter(stream: NodeJS.WriteStream = process.stderr): Reporter {
  const isLive = stream.isTTY && process.env.CI !== 'true';
  let drawn = 0; // characters of the progress line on screen
  let nextDraw = 0;
  const clear = (): void => {
    if (drawn > 0) stream.write(`\r${' '.repeat(drawn)}\r`);
    drawn = 0;
  };
  process.once('exit', clear);
  return {
    step(text) {
      clear();
      stream.write(`torchbind: ${text}\n`);
    },
    progress(done, total, unit) {
      const now = Date.now();
      if (!isLive || (now < nextDraw && done !== total)) return;
      nextDraw = now + 100;
      clear();
      const line = `  ${progressText(done, total, unit)}`;
      stream.write(line);
      drawn = line.length;
    },
  };
}

function progressText(done: number, total: number, unit: 'bytes' | 'files'): string {
  const amount = (value: number): string => (unit === 'bytes' ? `${(value / 1e6).toFixed(1)} MB` : `${value} files`);
  if (total <= 0) return amount(done);
  return `${Math.floor((100 * done) / total)} %, ${amount(done)} of ${amount(total)}`;
}
