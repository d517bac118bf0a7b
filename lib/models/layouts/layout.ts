import type { Tensor } from '../../tensor/tensor';
import type { GPTConfig } from '../config';

/**
 * A family of checkpoints: how its files name the tensors of a GPT.
 *
 * A layout is a table with a line for each module of the family's own Python model. The same table says which keys a
 * file has and in which order, what each holds of the model here, and how an optimizer numbers the parameters.
 */
export interface Layout {
  readonly name: string;
  /** For messages: where such files come from. */
  readonly description: string;
  /** Whether keys are those of this family. */
  matches(keys: ReadonlySet<string>): boolean;
  /** The family's modules in the order of `named_modules()`, parents before children. */
  modules(config: GPTConfig): LayoutModule[];
  /** How the family's program sets initial weights after PyTorch's defaults have been drawn. */
  readonly initialisation: Initialisation;
}

/** `pytorch`: each layer's default. `normal_02`: then Linear and Embedding anew from N(0, 0.02^2), biases 0, children first. */
export type Initialisation = 'pytorch' | 'normal_02';

/** A module of a family's Python model. */
export interface LayoutModule {
  /** Its dotted path; '' for the model itself. */
  path: string;
  /** Its parameters and persistent buffers, in the order in which they are registered. */
  tensors: LayoutTensor[];
}

/** A tensor of a family's files. */
export type LayoutTensor = LayoutParameter | LayoutBuffer;

/** A part of a parameter of the model here. */
export interface LayoutParameter {
  /** Its name in its module: `weight`, `bias`. */
  name: string;
  /** The parameter's name in the model here: `blocks.0.attn.qkv.weight`. */
  parameter: string;
  /** Rows of it, from and up to but without; all where left out. */
  rows?: readonly [number, number];
  /** Another name of a tensor that came before (tied weights): one parameter for optimizers, two keys in files. */
  alias?: boolean;
}

/** A tensor that follows from the config. */
export interface LayoutBuffer {
  name: string;
  buffer: 'causal_mask';
}

/** A parameter's part under its full key. */
export interface KeyedParameter extends LayoutParameter {
  key: string;
}

/** Whether a line of the table is a parameter. */
export function isParameter(tensor: LayoutTensor): tensor is LayoutParameter {
  return 'parameter' in tensor;
}

/** The key of a module's tensor. */
export function keyOf(module: LayoutModule, tensor: LayoutTensor): string {
  return module.path === '' ? tensor.name : `${module.path}.${tensor.name}`;
}

/** The parameters that the family's optimizer sees, in its order: that of `named_parameters()`. */
export function layoutParameters(layout: Layout, config: GPTConfig): KeyedParameter[] {
  return layout.modules(config).flatMap((module) =>
    module.tensors
      .filter(isParameter)
      .filter((tensor) => tensor.alias !== true)
      .map((tensor) => ({ ...tensor, key: keyOf(module, tensor) })),
  );
}

/** The part of `parameter` that a line of the table stands for, as a view. */
export function partOf(parameter: Tensor, { rows }: LayoutParameter): Tensor {
  return rows === undefined ? parameter : parameter.narrow(0, rows[0], rows[1] - rows[0]);
}
