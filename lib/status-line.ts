import { Socket } from 'node:net';

const REDRAW_MS = 100;
/** How long the line stays away for what is written to a pipe: its reader may print it on the same terminal, as `tee` does. */
const PIPE_MS = 300;
/** Erases from the cursor to the end of the screen, including rows onto which a narrower terminal wrapped the line. */
const ERASE_BELOW = '\u001b[J';
const NO_WRAP = '\u001b[?7l';
const WRAP = '\u001b[?7h';

type Write = typeof process.stderr.write;

/** Those that end a process which does not take them. */
const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

let isInUse = false;

/** Whether stderr is a terminal that understands escape sequences, not a build server's log, and without a status line. */
export function canDrawStatus(): boolean {
  const { CI = '', TERM } = process.env;
  const isBuildServer = !['', '0', 'false'].includes(CI);
  return process.stderr.isTTY && !isBuildServer && TERM !== 'dumb' && !isInUse;
}

/**
 * A line at the end of the output that is drawn again and again on stderr. Output of the program meanwhile appears above
 * it: the line gives way to each write to stdout or stderr.
 *
 * Between two writes the cursor is at the start of the line and all modes of the terminal are as they were. So a process
 * that is killed by SIGKILL leaves nothing to restore but the line, and a terminal that becomes narrower and wraps the line leaves no rest of it
 * above the cursor. Nor does one that has become narrower and has not said so yet, as the line is written without wrapping.
 */
export class StatusLine {
  private readonly write: Write = process.stderr.write.bind(process.stderr);
  private readonly releases: (() => void)[];
  private isShown = false;
  private isEnded = false;
  /** The program has written a part of a line: nothing may be drawn until it has written the rest. */
  private isMidLine = false;
  private timer: NodeJS.Timeout | undefined;
  private lastDraw = -Infinity;

  /**
   * @param render gives the text, without control characters, of at most so many columns
   * @param stays whether the line is left on the screen at the end
   */
  constructor(
    private readonly render: (columns: number) => string,
    private readonly stays = true,
  ) {
    isInUse = true;
    const redraw = (): void => this.redraw();
    const end = (): void => this.end();
    const endWith = (signal: NodeJS.Signals): void => {
      if (process.listenerCount(signal) > 1) return; // the program's own listener decides
      this.end();
      process.kill(process.pid, signal);
    };
    process.stderr.on('resize', redraw);
    process.on('exit', end);
    for (const signal of ENDING) process.on(signal, endWith);
    this.releases = [
      () => process.stderr.off('resize', redraw),
      () => process.off('exit', end),
      ...ENDING.map((signal) => () => process.off(signal, endWith)),
      // Not of a file, which does not lead to the terminal.
      ...[process.stdout, process.stderr].flatMap((stream) => (stream instanceof Socket ? [this.watch(stream)] : [])),
    ];
  }

  /** Redraws the line, at most ten times a second. */
  draw(): void {
    if (this.timer !== undefined || this.isEnded) return;
    const wait = this.lastDraw + REDRAW_MS - performance.now();
    if (wait <= 0) this.redraw();
    else this.timer = setTimeout(() => this.redraw(), wait).unref();
  }

  /** Draws the line for the last time, and leaves the cursor on the next one; or erases it. */
  end(): void {
    if (this.isEnded) return;
    this.isEnded = true;
    clearTimeout(this.timer);
    for (const release of this.releases) release();
    isInUse = false;
    if (this.stays) this.write(`${this.isMidLine ? '\n' : '\r'}${this.text()}${ERASE_BELOW}\n`);
    else if (this.isShown) this.write(`\r${ERASE_BELOW}`);
  }

  private redraw(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.isMidLine) return;
    this.lastDraw = performance.now();
    this.isShown = true;
    this.write(`\r${NO_WRAP}${this.text()}${ERASE_BELOW}\r${WRAP}`);
  }

  /** The last column stays free: after a character there, terminals differ in where the cursor is. */
  private text(): string {
    const columns = (process.stderr.columns || 80) - 1;
    return this.render(columns).slice(0, columns);
  }

  /** Makes way for what the program writes to a stream; returns what ends this. */
  private watch(stream: NodeJS.WriteStream): () => void {
    // eslint-disable-next-line @typescript-eslint/unbound-method -- called with its stream, and put back as it was
    const original = stream.write as Write;
    const watched = ((chunk: string | Uint8Array, ...rest: []) => {
      if (this.isEnded || chunk.length === 0) return original.call(stream, chunk, ...rest);
      if (this.isShown) this.write(`\r${ERASE_BELOW}`);
      this.isShown = false;
      const written = original.call(stream, chunk, ...rest);
      if (stream.isTTY) this.isMidLine = !endsLine(chunk);
      this.lastDraw = performance.now() + (stream.isTTY ? 0 : PIPE_MS - REDRAW_MS);
      this.draw();
      return written;
    }) as Write;
    stream.write = watched;
    return () => {
      // Another program may have put its own in place since.
      if (stream.write === watched) stream.write = original;
    };
  }
}

function endsLine(chunk: string | Uint8Array): boolean {
  return chunk.at(-1) === (typeof chunk === 'string' ? '\n' : 10);
}

/** A status line that appears when it is first drawn, and only where it can be. */
export function statusLine(text: () => string): { draw(): void; end(): void } {
  let line: StatusLine | undefined;
  return {
    draw: () => {
      if (line === undefined && canDrawStatus()) line = new StatusLine(text, false);
      line?.draw();
    },
    end: () => line?.end(),
  };
}
