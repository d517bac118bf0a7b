import type { DType } from '../../tensor/dtype';

/** A dtype of the safetensors format. */
export interface SafetensorsDType {
  /** As the file writes it: `F32`. */
  name: string;
  bits: number;
  /** PyTorch's dtype; null where it has none. */
  torch: DType | null;
  /** Elements of the format that lie in one element of PyTorch's. */
  packed: number;
  /** Tensors of the highest rank come first in a file. */
  rank: number;
}

/** In the order of the format's reference implementation, which is that of the ranks. */
const table: [name: string, bits: number, torch: DType | null][] = [
  ['BOOL', 8, 'bool'],
  ['F4', 4, 'float4_e2m1fn_x2'],
  ['F6_E2M3', 6, null],
  ['F6_E3M2', 6, null],
  ['U8', 8, 'uint8'],
  ['I8', 8, 'int8'],
  ['F8_E5M2', 8, 'float8_e5m2'],
  ['F8_E4M3', 8, 'float8_e4m3fn'],
  ['F8_E8M0', 8, 'float8_e8m0fnu'],
  ['F8_E4M3FNUZ', 8, 'float8_e4m3fnuz'],
  ['F8_E5M2FNUZ', 8, 'float8_e5m2fnuz'],
  ['I16', 16, 'int16'],
  ['U16', 16, 'uint16'],
  ['F16', 16, 'float16'],
  ['BF16', 16, 'bfloat16'],
  ['I32', 32, 'int32'],
  ['U32', 32, 'uint32'],
  ['F32', 32, 'float32'],
  ['C64', 64, 'complex64'],
  ['F64', 64, 'float64'],
  ['I64', 64, 'int64'],
  ['U64', 64, 'uint64'],
];

const all = table.map(([name, bits, torch], rank): SafetensorsDType => {
  return { name, bits, torch, packed: torch === 'float4_e2m1fn_x2' ? 2 : 1, rank };
});

/** By the name in the file. */
export const safetensorsDTypes: ReadonlyMap<string, SafetensorsDType> = new Map(
  all.map((entry) => [entry.name, entry]),
);

/** By PyTorch's name. */
export const safetensorsDTypeOf: ReadonlyMap<string, SafetensorsDType> = new Map(
  all.flatMap((entry) => (entry.torch === null ? [] : [[entry.torch, entry]])),
);
