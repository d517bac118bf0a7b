import type { NativeStatistic } from '../native/binding';
import { native } from '../native/native';
import { type DeviceArgument, deviceName, hasCuda } from './cuda-device';
import type { DeviceName } from './schema-types';

/** Figures of the caching allocator of a device, in bytes. */
export interface DeviceMemory {
  /** In use by tensors. */
  allocated: number;
  /** Held by the allocator, in use or not. */
  reserved: number;
  /** The most that was ever in use since the start or `resetPeakMemoryStats()`. */
  peakAllocated: number;
  /** The most that was ever held since then. */
  peakReserved: number;
}

/** Rows of the summary: Python's names of the figures, and whether they are bytes. */
const ROWS: readonly (readonly [title: string, key: string, isBytes: boolean])[] = [
  ['Allocated memory', 'allocated_bytes', true],
  ['Active memory', 'active_bytes', true],
  ['Requested memory', 'requested_bytes', true],
  ['GPU reserved memory', 'reserved_bytes', true],
  ['Non-releasable memory', 'inactive_split_bytes', true],
  ['Allocations', 'allocation', false],
  ['Active allocs', 'active', false],
  ['GPU reserved segments', 'segment', false],
  ['Non-releasable allocs', 'inactive_split', false],
];
const COLUMNS = ['Current', 'Peak', 'Total allocated', 'Total freed'];
const TITLE_WIDTH = 22;
const WIDTH = 16;
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** Figures of a device. Without CUDA these are zeros, as in PyTorch, unless a device was named. */
export function memoryOf(device: DeviceArgument): DeviceMemory {
  if (device === undefined && !hasCuda()) return { allocated: 0, reserved: 0, peakAllocated: 0, peakReserved: 0 };
  return native().deviceMemory(deviceName(device));
}

/**
 * A table of the allocator's figures for a person to read (PyTorch's `torch.cuda.memory_summary`); of zeros if there is no
 * CUDA, unless a device is named.
 */
export function memorySummary(device?: DeviceName | number): string {
  const statistics = device === undefined && !hasCuda() ? {} : native().deviceStatistics(deviceName(device));
  const figures = (key: string): NativeStatistic => (statistics[key] as NativeStatistic | undefined) ?? [0, 0, 0, 0];
  const count = (key: string): number => (statistics[key] as number | undefined) ?? 0;
  const line = (title: string, cells: readonly string[]): string =>
    `| ${title.padEnd(TITLE_WIDTH)}|${cells.map((cell) => `${cell.padStart(WIDTH)} |`).join('')}`;
  const heading = line('Metric', COLUMNS);
  const rule = '-'.repeat(heading.length);
  const notes = `CUDA OOMs: ${count('num_ooms')} | cudaMalloc retries: ${count('num_alloc_retries')}`;
  const rows = ROWS.map(([title, key, isBytes]) => line(title, figures(key).map(isBytes ? inUnits : String)));
  return [
    rule,
    `| PyTorch CUDA memory summary, ${deviceName(device)} | ${notes}`,
    rule,
    heading,
    rule,
    ...rows,
    rule,
    '',
  ].join('\n');
}

function inUnits(bytes: number): string {
  let unit = 0;
  while (bytes >= 10 * 1024 && unit < UNITS.length - 1) {
    bytes /= 1024;
    unit++;
  }
  return `${Math.floor(bytes)} ${UNITS[unit]}`;
}
