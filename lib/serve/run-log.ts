import { open, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { type DrawnChart, drawnCharts, type Point, thin } from '../train/metrics/charts';
import type { MetricsLine } from '../train/metrics/line';
import { turnTimer } from '../workers/slices';

/** Maximum number of points of a curve before it is thinned, so that a log of any length takes little memory. */
const MOST_POINTS = 8000;
const CHUNK = 64 * 1024;
/** A longer line does not belong to a log. */
const LONGEST_LINE = 16 * 1024;

/** The curves of a run. Only what was added to `metrics.jsonl` since the last look is read. */
class RunLog {
  private readonly file: string;
  private inode = -1;
  private offset = 0;
  private rest = '';
  private curves = new Map<keyof MetricsLine, Point[]>();
  private reading: Promise<void> | undefined;

  constructor(directory: string) {
    this.file = path.join(directory, 'metrics.jsonl');
  }

  /** Says which state of the log the curves are of. */
  get version(): string {
    return `${this.inode}-${this.offset}`;
  }

  charts(): DrawnChart[] {
    return drawnCharts((key) => this.curves.get(key) ?? []);
  }

  async refresh(): Promise<void> {
    this.reading ??= this.read().finally(() => (this.reading = undefined));
    return this.reading;
  }

  private async read(): Promise<void> {
    const file = await open(this.file, 'r').catch(() => undefined);
    try {
      const stats = await file?.stat();
      // A run that resumes replaces the file, without the lines that it makes again.
      if (file === undefined || !stats!.isFile()) return this.restart(-1);
      if (stats!.ino !== this.inode || stats!.size < this.offset) this.restart(stats!.ino);
      await this.readRest(file, stats!.size);
    } finally {
      await file?.close();
    }
  }

  private restart(inode: number): void {
    this.inode = inode;
    this.offset = 0;
    this.rest = '';
    this.curves = new Map();
  }

  private async readRest(file: FileHandle, size: number): Promise<void> {
    const buffer = Buffer.alloc(CHUNK);
    const turn = turnTimer();
    while (this.offset < size) {
      const { bytesRead } = await file.read(buffer, 0, CHUNK, this.offset);
      if (bytesRead === 0) return;
      this.offset += bytesRead;
      const lines = (this.rest + buffer.toString('latin1', 0, bytesRead)).split('\n'); // numbers and keys are ASCII
      this.rest = lines.pop()!.slice(0, LONGEST_LINE);
      for (const line of lines) this.add(line);
      await turn();
    }
  }

  private add(text: string): void {
    const line = parse(text);
    if (line === undefined || !Number.isSafeInteger(line.step)) return;
    for (const [key, value] of Object.entries(line) as [keyof MetricsLine, unknown][]) {
      if (typeof value !== 'number' || key === 'step' || key === 'time') continue;
      let curve = this.curves.get(key);
      if (curve === undefined) {
        if (this.curves.size > 20) continue;
        this.curves.set(key, (curve = []));
      }
      curve.push([line.step, value]);
      if (curve.length > MOST_POINTS) this.curves.set(key, [...thin(curve)]);
    }
  }
}

function parse(text: string): MetricsLine | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as MetricsLine) : undefined;
  } catch {
    return undefined; // the last line of a run that was killed
  }
}

/** The logs of the runs that were looked at last. */
export class RunLogs {
  private readonly logs = new Map<string, RunLog>();

  /** The curves of a directory's run; null if they are those of `version`. */
  async charts(
    directory: string,
    version: string | undefined,
  ): Promise<{ version: string; charts: DrawnChart[] } | null> {
    const log = this.logs.get(directory) ?? new RunLog(directory);
    this.logs.delete(directory);
    this.logs.set(directory, log); // the last is the newest
    if (this.logs.size > 16) this.logs.delete(this.logs.keys().next().value!);
    await log.refresh();
    return log.version === version ? null : { version: log.version, charts: log.charts() };
  }
}
