import type { ReducerArguments } from '../native/binding';
import { unwrap } from '../tensor/core';
import type { Tensor } from '../tensor/tensor';

const MIB = 2 ** 20;

/** Options of `DistributedDataParallel` that its reducer has. */
interface ReducerOptions {
  bucketCapMb?: number;
  findUnusedParameters?: boolean;
  gradientAsBucketView?: boolean;
  staticGraph?: boolean;
  fp16Compress?: boolean;
}

/** What makes a reducer of parameters, by name, after which `states` are those of rank 0. */
export function reducerArguments(
  group: string,
  parameters: readonly (readonly [name: string, parameter: Tensor])[],
  states: readonly Tensor[],
  where: string,
  options: ReducerOptions = {},
): ReducerArguments {
  const { bucketCapMb, findUnusedParameters = false, staticGraph = false } = options;
  const { gradientAsBucketView = false, fp16Compress = false } = options;
  const handles = (tensors: readonly Tensor[]): number[] => tensors.map((tensor) => unwrap(tensor, where));
  const [size, firstSize] = bucketCapMb === undefined ? [25, 1] : [bucketCapMb, bucketCapMb];
  return [
    group,
    handles(parameters.map(([, parameter]) => parameter)),
    parameters.map(([name]) => name),
    handles(states),
    Math.ceil(size * MIB),
    Math.ceil(firstSize * MIB),
    findUnusedParameters,
    gradientAsBucketView,
    staticGraph,
    fp16Compress,
  ];
}
