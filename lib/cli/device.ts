import { cuda } from '../tensor/device';

/** The device that a flag names: `auto`, or none named, is the GPU where there is one for a new model. */
export function deviceOption(name: string | undefined): { device?: string } {
  return name === undefined || name === 'auto' ? {} : { device: name };
}

/** For a model that no file gives a device. */
export function deviceForNew(name: string | undefined): string {
  return deviceOption(name).device ?? (cuda.isAvailable() ? 'cuda' : 'cpu');
}
