import { cuda } from '../tensor/device';
import type { DeviceName } from '../tensor/schema-types';

/** The device that a flag names: `auto`, or none named, is the GPU if there is one for a new model. */
export function deviceOption(name: string | undefined): { device?: DeviceName } {
  return name === undefined || name === 'auto' ? {} : { device: name as DeviceName }; // a wrong name is refused where it is used
}

/** For a model that no file gives a device. */
export function deviceForNew(name: string | undefined): DeviceName {
  return deviceOption(name).device ?? (cuda.isAvailable() ? 'cuda' : 'cpu');
}
