/** What the functions of `cuda` share: devices by name or number, and the error without a GPU. */
import { checkArgument, TorchBindError } from '../errors';
import { native } from '../native/native';
import type { DeviceName } from './schema-types';

/** A device by name, or a CUDA device by index; without one, the current CUDA device. */
export type DeviceArgument = DeviceName | number | undefined;

export function hasCuda(): boolean {
  return native().accelerator() === 'cuda';
}

/** @throws ERR_TORCHBIND_INVALID_ARGUMENT for what names no device */
export function deviceName(device: DeviceArgument, where = 'cuda'): string {
  if (typeof device === 'number') return `cuda:${device}`;
  checkArgument(device === undefined || typeof device === 'string', 'a device, or the number of one', device, where);
  return device ?? 'cuda';
}

/** @throws ERR_TORCHBIND_DEVICE */
export function requireCuda(where: string): void {
  if (hasCuda()) return;
  throw new TorchBindError(
    `${where}: found no CUDA device: this libtorch was built for the CPU, or no GPU answers. Ask cuda.isAvailable() first, or see what \`npx torchbind doctor\` says.`,
    'ERR_TORCHBIND_DEVICE',
  );
}
