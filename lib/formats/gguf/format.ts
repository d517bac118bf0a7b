/** The GGUF format of llama.cpp, version 3: metadata with types, then tensors at aligned places. */

export const magic = 'GGUF';
export const version = 3;
export const defaultAlignment = 32;

/** Numbers of a tensor that are stored together, and the bytes that they take. */
export interface TensorType {
  id: number;
  name: string;
  block: number;
  bytes: number;
}

const table: [id: number, name: string, block: number, bytes: number][] = [
  [0, 'F32', 1, 4],
  [1, 'F16', 1, 2],
  [2, 'Q4_0', 32, 18],
  [3, 'Q4_1', 32, 20],
  [6, 'Q5_0', 32, 22],
  [7, 'Q5_1', 32, 24],
  [8, 'Q8_0', 32, 34],
  [9, 'Q8_1', 32, 40],
  [10, 'Q2_K', 256, 84],
  [11, 'Q3_K', 256, 110],
  [12, 'Q4_K', 256, 144],
  [13, 'Q5_K', 256, 176],
  [14, 'Q6_K', 256, 210],
  [15, 'Q8_K', 256, 292],
  [16, 'IQ2_XXS', 256, 66],
  [17, 'IQ2_XS', 256, 74],
  [18, 'IQ3_XXS', 256, 98],
  [19, 'IQ1_S', 256, 50],
  [20, 'IQ4_NL', 32, 18],
  [21, 'IQ3_S', 256, 110],
  [22, 'IQ2_S', 256, 82],
  [23, 'IQ4_XS', 256, 136],
  [24, 'I8', 1, 1],
  [25, 'I16', 1, 2],
  [26, 'I32', 1, 4],
  [27, 'I64', 1, 8],
  [28, 'F64', 1, 8],
  [29, 'IQ1_M', 256, 56],
  [30, 'BF16', 1, 2],
  [34, 'TQ1_0', 256, 54],
  [35, 'TQ2_0', 256, 66],
  [39, 'MXFP4', 32, 17],
];

export const tensorTypes: ReadonlyMap<number, TensorType> = new Map(
  table.map(([id, name, block, bytes]) => [id, { id, name, block, bytes }]),
);

/** Types that are written. */
export type WrittenType = 'F32' | 'F16' | 'BF16' | 'Q8_0';

const byName = new Map([...tensorTypes.values()].map((type) => [type.name, type]));

export function tensorType(name: WrittenType): TensorType {
  return byName.get(name)!;
}

/** Names of the types of metadata, by their ids. */
export const valueTypes = [
  'u8', 'i8', 'u16', 'i16', 'u32', 'i32', 'f32', 'bool', 'string', 'array', 'u64', 'i64', 'f64',
] as const; // prettier-ignore

export type ValueType = (typeof valueTypes)[number];

/** Values of metadata that are written, with their types. */
export type MetadataValue =
  | { type: 'u32' | 'i32' | 'f32'; value: number }
  | { type: 'bool'; value: boolean }
  | { type: 'string'; value: string }
  | { type: 'array'; of: 'string'; value: readonly string[] }
  | { type: 'array'; of: 'f32' | 'i32'; value: readonly number[] };

export const u32 = (value: number): MetadataValue => ({ type: 'u32', value });
export const f32 = (value: number): MetadataValue => ({ type: 'f32', value });
export const bool = (value: boolean): MetadataValue => ({ type: 'bool', value });
export const text = (value: string): MetadataValue => ({ type: 'string', value });
export const texts = (value: readonly string[]): MetadataValue => ({ type: 'array', of: 'string', value });
export const floats = (value: readonly number[]): MetadataValue => ({ type: 'array', of: 'f32', value });
export const ints = (value: readonly number[]): MetadataValue => ({ type: 'array', of: 'i32', value });

/** Bytes of a tensor. */
export function sizeOf(shape: readonly number[], { block, bytes }: TensorType): number {
  return (shape.reduce((product, length) => product * length, 1) / block) * bytes;
}

export function align(position: number, alignment: number): number {
  return Math.ceil(position / alignment) * alignment;
}
