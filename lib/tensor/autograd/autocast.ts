import { describe, requireOptions, takes, TorchBindError } from '../../errors';
import { native } from '../../native/native';
import { dtypeCode, dtypeFromCode } from '../dtype';
import type { DType } from '../dtype';
import { refuseAsyncFunction, refuseAsyncResult } from './synchronous';
import type { DeviceName } from '../schema-types';

/** Options of `autocast()`. */
export interface AutocastOptions {
  /** The type of device whose operators choose their dtype: `cpu`, `cuda`. */
  device: DeviceName;
  /** The lower precision. Default: the one in force, at first bfloat16 on CPUs and float16 on CUDA. */
  dtype?: 'bfloat16' | 'float16';
  /** With false, switches autocast off inside another autocast. Default true. */
  enabled?: boolean;
  /** Keep the copies of weights in the lower precision until the outermost autocast ends. Default true. */
  cacheEnabled?: boolean;
}

/**
 * Runs a synchronous function in mixed precision (PyTorch's `torch.autocast`): matrix products and the like compute in
 * the lower precision, sums and losses in float32, each as PyTorch's lists say. Run the forward pass and the loss in
 * it; `backward()` comes after it. Nests.
 *
 * @throws {TorchBindError} `ERR_TORCHBIND_ASYNC_MODE` when `fn` is async
 */
export const autocast = takes(2, function autocast<T>(options: AutocastOptions, fn: () => T): T {
  requireOptions(options, ['device', 'dtype', 'enabled', 'cacheEnabled'], 'autocast()');
  const device = deviceType(options.device, 'autocast()');
  refuseAsyncFunction(fn, 'autocast');
  const [wasEnabled, wasDtype, wasCacheEnabled] = native().getAutocast(device);
  const dtype = options.dtype === undefined ? wasDtype : lowerPrecision(options.dtype);
  native().setAutocast(device, options.enabled ?? true, dtype, options.cacheEnabled ?? wasCacheEnabled);
  native().enterAutocast();
  try {
    const result = fn();
    refuseAsyncResult(result, 'autocast');
    return result;
  } finally {
    native().exitAutocast();
    native().setAutocast(device, wasEnabled, wasDtype, wasCacheEnabled);
  }
});

/** Whether `autocast` is on for a type of device (PyTorch's `torch.is_autocast_enabled`). */
export const isAutocastEnabled = takes(1, function isAutocastEnabled(device: DeviceName): boolean {
  return native().getAutocast(deviceType(device, 'isAutocastEnabled()'))[0];
});

/** The lower precision of a type of device (PyTorch's `torch.get_autocast_dtype`). */
export const getAutocastDtype = takes(1, function getAutocastDtype(device: DeviceName): DType {
  return dtypeFromCode(native().getAutocast(deviceType(device, 'getAutocastDtype()'))[1]);
});

function deviceType(device: unknown, where: string): string {
  if (typeof device !== 'string') {
    throw new TorchBindError(
      `${where}: expected a type of device, 'cpu' or 'cuda', got ${describe(device)}.`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  return device;
}

function lowerPrecision(dtype: unknown): number {
  if (dtype === 'bfloat16' || dtype === 'float16') return dtypeCode[dtype];
  throw new TorchBindError(
    `autocast(): 'dtype' must be 'bfloat16' or 'float16', got ${describe(dtype)}.`,
    'ERR_TORCHBIND_INVALID_ARGUMENT',
  );
}
