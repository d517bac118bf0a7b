import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { appendTo, isSpecial, replaceContent } from '../../formats/files/write-sync';
import type { TrainEvent } from '../events';
import { lineOf, type MetricsLine } from './line';
import { writePage } from './page';
import { EventFile } from './tensorboard';

const linesFile = 'metrics.jsonl';
const pageFile = 'metrics.html';
/** Lines are gathered for so long, so that quick steps do not wait for the disk. */
const FLUSH_MS = 1000;

/**
 * Writes what happens in training next to the bundle: `metrics.jsonl`, TensorBoard's event file, and `metrics.html` with
 * the curves. A run that continues at a step drops the lines of later steps, which it makes again.
 *
 * A log that cannot be written is given up with a warning; training continues.
 */
export class MetricsLog {
  private readonly directory: string;
  private readonly lines: MetricsLine[];
  private readonly events: EventFile;
  private waiting: MetricsLine[] = [];
  private lastFlush = performance.now();

  private constructor(
    directory: string,
    step: number,
    private readonly name: string,
  ) {
    this.directory = path.resolve(directory);
    mkdirSync(this.directory, { recursive: true });
    const file = path.join(this.directory, linesFile);
    this.lines = readLines(file).filter((line) => line.step <= step);
    if (!isSpecial(file)) replaceContent(file, textOf(this.lines));
    this.events = new EventFile(this.directory, step);
  }

  /**
   * The log of a directory; null if it cannot be written.
   *
   * @param name of the model, for the page; by default the directory's
   */
  static open(directory: string, step: number, name = path.basename(path.resolve(directory))): MetricsLog | null {
    return attempt(directory, () => new MetricsLog(directory, step, name));
  }

  /** Logs an event. Returns false if the log cannot be written any more. */
  take(event: TrainEvent): boolean {
    const line = lineOf(event);
    if (line !== undefined) this.waiting.push(line);
    const isDue = performance.now() - this.lastFlush > FLUSH_MS;
    if (event.type !== 'eval' && event.type !== 'save' && !isDue) return true;
    return this.flush() && (event.type === 'step' || this.draw());
  }

  close(): void {
    if (this.flush()) this.draw();
  }

  private flush(): boolean {
    const { waiting } = this;
    this.waiting = [];
    this.lastFlush = performance.now();
    const written = attempt(this.directory, () => {
      if (waiting.length > 0) appendTo(path.join(this.directory, linesFile), textOf(waiting));
      for (const line of waiting) this.events.add(line);
      this.events.flush();
      return true;
    });
    this.lines.push(...waiting);
    return written === true;
  }

  private draw(): boolean {
    return (
      attempt(this.directory, () => writePage(path.join(this.directory, pageFile), this.name, this.lines)) === true
    );
  }
}

/** Lines of an earlier part of the run; what a crash cut off is left out. */
function readLines(file: string): MetricsLine[] {
  if (!existsSync(file) || isSpecial(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .flatMap((text) => {
      try {
        const line = JSON.parse(text) as MetricsLine;
        return Number.isSafeInteger(line.step) ? [line] : [];
      } catch {
        return [];
      }
    });
}

function textOf(lines: readonly MetricsLine[]): string {
  return lines.map((line) => `${JSON.stringify(line)}\n`).join('');
}

function attempt<T>(directory: string, action: () => T): T | null {
  try {
    return action();
  } catch (error) {
    const message = `the metrics in ${directory} cannot be written: ${(error as Error).message}`;
    process.emitWarning(message, { code: 'TORCHBIND_METRICS' });
    return null;
  }
}
