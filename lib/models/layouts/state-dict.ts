import { TorchBindError } from '../../errors';
import type { Parameter } from '../../nn/parameter';
import type { StateEntry } from '../../nn/state-dict';
import { full, ones } from '../../tensor/creation';
import type { Tensor } from '../../tensor/tensor';
import type { GPTConfig } from '../config';
import { type CheckpointLayout, isParameterLine, isPart, keyOf, type LayoutBuffer, partOf } from './layout';
import type { DeviceName } from '../../tensor/schema-types';

/** State dicts of a model, in the keys of its layout. */

/** A `GPTModel`, as far as its state dict depends on it. */
interface KeyedModel {
  readonly layout: CheckpointLayout;
  readonly config: GPTConfig;
  readonly device: DeviceName;
  namedParameters(): [string, Parameter][];
}

/** Refuses a layout that has no key for one of the model's parameters, or a key for a parameter that the model lacks. */
export function checkLayout(model: KeyedModel): void {
  const lines = new Set(
    model.layout
      .modules(model.config)
      .flatMap(({ tensors }) => tensors.filter(isParameterLine).map((line) => line.parameter)),
  );
  const own = model.namedParameters().map(([name]) => name);
  const homeless = own.filter((name) => !lines.has(name));
  const absent = [...lines].filter((name) => !own.includes(name));
  if (homeless.length + absent.length === 0) return;
  const list = (names: string[]): string => (names.length === 0 ? 'none' : names.slice(0, 4).join(', '));
  throw new TorchBindError(
    `The layout '${model.layout.name}' cannot hold a model of this config. Parameters without a key: ${list(homeless)}. ` +
      `Keys without a parameter: ${list(absent)}.`,
    'ERR_TORCHBIND_LAYOUT',
  );
}

/** The tensors of the layout's files, in their order. Parts of fused parameters are views of them. */
export function stateEntriesOf(model: KeyedModel, prefix: string): StateEntry[] {
  const parameters = new Map(model.namedParameters());
  const buffers = new Map<string, Tensor>();
  const firstKeys = new Map<string, string>();
  return model.layout.modules(model.config).flatMap((module) =>
    module.tensors.map((line): StateEntry => {
      const key = prefix === '' ? keyOf(module, line) : `${prefix}.${keyOf(module, line)}`;
      if (!isParameterLine(line)) return { key, tensor: makeBuffer(model, line, buffers), constant: true };
      if (line.alias !== true) firstKeys.set(line.parameter, key);
      const parameter = parameters.get(line.parameter)!;
      const tensor = partOf(parameter.detach(), line);
      const aliasOf = line.alias === true ? firstKeys.get(line.parameter) : undefined;
      return { key, tensor, whole: isPart(line) ? undefined : parameter, part: isPart(line), aliasOf };
    }),
  );
}

/** Paths of the modules that `_metadata` lists. */
export function statePathsOf({ layout, config }: KeyedModel, prefix: string): string[] {
  return layout.modules(config).map(({ path }) => [prefix, path].filter((part) => part !== '').join('.'));
}

/** The tensor of a buffer. Equal buffers are one tensor, so that a file holds it once. */
function makeBuffer(
  { config, device }: KeyedModel,
  { buffer, shape, dtype = 'float32' }: LayoutBuffer,
  made: Map<string, Tensor>,
): Tensor {
  const T = config.blockSize;
  const size = shape ?? (buffer === 'causal_mask' ? [T, T] : []);
  const id = `${buffer} ${size.join(' ')} ${dtype}`;
  const make = (): Tensor =>
    buffer === 'causal_mask'
      ? ones([T, T], { device })
          .tril()
          .to(dtype)
          .view([...size])
      : full([...size], buffer, { device, dtype });
  const tensor = made.get(id) ?? make();
  made.set(id, tensor);
  return tensor;
}
