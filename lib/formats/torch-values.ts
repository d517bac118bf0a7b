import { GlobalName, Reduction } from '../pickle/writer';
import { Device, DTypeValue, Size, Tuple } from '../pickle/types';

/** How `torch.save` writes PyTorch's values other than tensors: torch.Size, dtypes and devices. */
export function reduceTorchValue(value: object): Reduction | GlobalName | undefined {
  if (value instanceof Size) return new Reduction(new GlobalName('torch', 'Size'), Tuple.of(Tuple.from(value)));
  if (value instanceof DTypeValue) return new GlobalName('torch', value.name);
  if (value instanceof Device) {
    const args = value.index === null ? Tuple.of(value.type) : Tuple.of<unknown>(value.type, value.index);
    return new Reduction(new GlobalName('torch', 'device'), args);
  }
  return undefined;
}
