import type { DeviceProperties } from '../native/binding';
import { native } from '../native/native';
import { type DeviceArgument, deviceName, hasCuda, requireCuda } from './cuda-device';
import type { DeviceName } from './schema-types';

/** The first compute capability with bfloat16 and TF32 in hardware: Ampere. */
const FIRST_WITH_BF16 = 8;

/** As the driver says it. @throws ERR_TORCHBIND_DEVICE without a CUDA device */
export function getDeviceProperties(device?: DeviceName | number): DeviceProperties {
  requireCuda('cuda.getDeviceProperties()');
  return native().deviceProperties(deviceName(device, 'cuda.getDeviceProperties()'));
}

/** Its name: `NVIDIA H100 80GB HBM3`. @throws ERR_TORCHBIND_DEVICE without a CUDA device */
export function getDeviceName(device?: DeviceName | number): string {
  requireCuda('cuda.getDeviceName()');
  return native().deviceProperties(deviceName(device, 'cuda.getDeviceName()')).name;
}

/** Compute capability, `[9, 0]` for an H100. @throws ERR_TORCHBIND_DEVICE without a CUDA device */
export function getDeviceCapability(device?: DeviceName | number): [major: number, minor: number] {
  requireCuda('cuda.getDeviceCapability()');
  const { major, minor } = native().deviceProperties(deviceName(device, 'cuda.getDeviceCapability()'));
  return [major, minor];
}

/**
 * Whether the current device computes in bfloat16 (PyTorch's `torch.cuda.is_bf16_supported`); false without a device.
 *
 * @param includingEmulation also where the hardware has no bfloat16 and kernels compute it otherwise. Default true
 */
export function isBf16Supported(includingEmulation = true): boolean {
  if (!hasCuda()) return false;
  return includingEmulation || isOfGeneration(FIRST_WITH_BF16, undefined);
}

/** Whether the current device has TF32 (PyTorch's `torch.cuda.is_tf32_supported`); false without a device. */
export function isTf32Supported(): boolean {
  return hasCuda() && isOfGeneration(FIRST_WITH_BF16, undefined);
}

function isOfGeneration(first: number, device: DeviceArgument): boolean {
  return getDeviceCapability(device)[0] >= first;
}
