import { checkArgument, TorchBindError } from '../errors';
import type { Parameter } from '../nn/parameter';
import { Adagrad, Adam, AdamW, Optimizer, recogniseOptimizer, SGD } from '../optim';
import type { AdamWOptions, AnyOptimizer } from '../optim';
import { readStateDict, stateDictError } from '../optim/state-dict';
import type { FileGroup, ParameterState } from '../optim/state-dict';
import { sameShape } from '../nn/state-dict';
import { noGrad } from '../tensor/autograd';
import { cat } from '../tensor/generated/functions';
import { copyTensors, isDense, type TensorPair } from '../tensor/off-loop';
import { dispose, keep, tidy } from '../tensor/scope';
import { Tensor } from '../tensor/tensor';
import type { GPTModel } from './gpt-model';
import { layoutParameters } from './layouts/layout';
import type { KeyedParameter } from './layouts/layout';
import { alignNames, namesOf, optimizerFromFile, optimizerToFile } from './layouts/optimizer-state';
import type { GroupNames } from './layouts/optimizer-state';

/** Optimizers over a GPT's parameters, as the Python programs of its layout make, write and read them. */

/** Optimizers whose state came without names, and is written back without. */
const unnamed = new WeakSet<Optimizer>();

function checkOptimizer(optimizer: unknown): void {
  checkArgument(optimizer instanceof Optimizer, 'an optimizer', optimizer, 'GPT: optimizer');
}

/**
 * The state dict of an optimizer over a model's parameters, as the optimizer of the layout's Python program writes it.
 * See `GPT.optimizerStateDict`.
 *
 * @param takePart what stands for a part of a parameter's state, which is a view of it. Default: a copy
 */
export function optimizerStateDict(
  model: GPTModel,
  optimizer: Optimizer,
  takePart?: (part: Tensor) => Tensor,
): Map<string, unknown> {
  checkOptimizer(optimizer);
  return tidy(() =>
    noGrad(() =>
      optimizerToFile(optimizer.stateDict(), groupNames(model, optimizer), table(model), {
        named: !unnamed.has(optimizer),
        takePart,
      }),
    ),
  );
}

/**
 * Loads what the optimizer of the layout's Python program wrote into an optimizer over a model's parameters.
 * See `GPT.loadOptimizerStateDict`.
 */
export function loadOptimizerStateDict(
  model: GPTModel,
  optimizer: Optimizer,
  stateDict: ReadonlyMap<string, unknown>,
): void {
  checkOptimizer(optimizer);
  tidy(() =>
    noGrad(() => {
      optimizer.loadStateDict(fromFile(model, optimizer, stateDict));
      noteNames(optimizer, stateDict);
    }),
  );
}

/**
 * As `loadOptimizerStateDict`, in two parts: the first works off the event loop, from a state dict that nobody else holds.
 *
 * @returns the second part, which puts the state into the optimizer
 */
export async function prepareOptimizerState(
  model: GPTModel,
  optimizer: Optimizer,
  stateDict: ReadonlyMap<string, unknown>,
): Promise<() => void> {
  const joined: Tensor[] = [];
  const pairs: TensorPair[] = [];
  const joinParts = (parts: Tensor[]): Tensor => {
    if (!parts.every((part) => isDense(part) && part.dtype === parts[0]!.dtype)) return cat(parts);
    const rows = parts.reduce((sum, part) => sum + part.size(0), 0);
    const whole = parts[0]!.newEmpty([rows, ...parts[0]!.shape.slice(1)]);
    const places = whole.split(
      parts.map((part) => part.size(0)),
      0,
    );
    parts.forEach((part, i) => pairs.push([keep(places[i]!), keep(part.detach())]));
    joined.push(keep(whole));
    return whole;
  };
  try {
    const own = tidy(() => noGrad(() => fromFile(model, optimizer, stateDict, joinParts)));
    await copyTensors(pairs);
    dispose(pairs); // what refers to a joined tensor next to it would keep it from being adopted
    const commit = await optimizer.prepareStateDict(own);
    return () => {
      commit();
      noteNames(optimizer, stateDict);
    };
  } finally {
    dispose([pairs, joined]);
  }
}

function fromFile(
  model: GPTModel,
  optimizer: Optimizer,
  stateDict: ReadonlyMap<string, unknown>,
  joinParts?: (parts: Tensor[]) => Tensor,
): Map<string, unknown> {
  const shapes = new Map(model.namedParameters().map(([name, { shape }]) => [name, shape]));
  const required = partsOf(optimizer);
  return optimizerFromFile(stateDict, groupNames(model, optimizer), table(model), { shapes, required, joinParts });
}

/** Remembers whether a state came with names. */
function noteNames(optimizer: Optimizer, stateDict: ReadonlyMap<string, unknown>): void {
  const { groups } = readStateDict(stateDict);
  if (groups.every((group) => namesOf(group) === undefined)) unnamed.add(optimizer);
  else unnamed.delete(optimizer);
}

/**
 * A new AdamW over the parameters that are not frozen, with the groups, weight decay and betas of the layout's Python
 * program. Options go before the program's own values.
 */
export function makeOptimizer(model: GPTModel, options: AdamWOptions = {}): AdamW {
  const rule = model.layout.optimizerGroups;
  if (rule === undefined) return new AdamW(trainable(model), options);
  const groups = familyGroups(model, trainableNames(model))
    .map((names, i) => ({
      params: parametersOf(model, names),
      weightDecay: i === 0 ? (options.weightDecay ?? rule.weightDecay[0]) : rule.weightDecay[1],
    }))
    .filter(({ params }) => params.length > 0);
  return new AdamW(groups, { ...options, betas: options.betas ?? rule.betas });
}

/** Classes whose state resumes here, by PyTorch's names. */
const classes = { AdamW, Adam, Adagrad, SGD } as const;

/** What the state of each class must hold for a parameter that was updated. SGD begins its buffer when it is missing. */
const requiredParts: Readonly<Record<keyof typeof classes, readonly string[]>> = {
  AdamW: ['step', 'exp_avg', 'exp_avg_sq'],
  Adam: ['step', 'exp_avg', 'exp_avg_sq'],
  Adagrad: ['step', 'sum'],
  SGD: [],
};

/**
 * An optimizer of the class that wrote a state dict, with its groups and its state. Before torch 2.6 Adam and AdamW write the
 * same: it is then taken for AdamW, which the programs of all families use.
 *
 * @throws ERR_TORCHBIND_OPTIMIZER_STATE naming a class that is not here
 */
export function resumeOptimizer(model: GPTModel, stateDict: ReadonlyMap<string, unknown>): AnyOptimizer {
  const optimizer = optimizerOf(model, stateDict);
  loadOptimizerStateDict(model, optimizer, stateDict);
  freezeOthers(model, optimizer);
  return optimizer;
}

/**
 * As `resumeOptimizer`, off the event loop, from a state dict that nobody else holds. The caller disposes the state
 * dict in any case.
 */
export async function adoptOptimizer(model: GPTModel, stateDict: ReadonlyMap<string, unknown>): Promise<AnyOptimizer> {
  const optimizer = optimizerOf(model, stateDict);
  const commit = await prepareOptimizerState(model, optimizer, stateDict);
  commit();
  freezeOthers(model, optimizer);
  return optimizer;
}

/** A new optimizer of the class that wrote a state dict, over its groups. */
function optimizerOf(model: GPTModel, stateDict: ReadonlyMap<string, unknown>): AnyOptimizer {
  return new classes[classOf(stateDict)](parameterGroups(model, stateDict));
}

/** What the program did not train stays as it is here too, and does not count towards the norm of the gradients. */
function freezeOthers(model: GPTModel, { paramGroups }: AnyOptimizer): void {
  const trained = new Set(paramGroups.flatMap(({ params }) => params));
  for (const parameter of model.parameters()) if (!trained.has(parameter)) parameter.requiresGrad = false;
}

function classOf(stateDict: ReadonlyMap<string, unknown>): keyof typeof classes {
  const { name, saw } = recogniseOptimizer(stateDict);
  if (name !== undefined && name in classes) return name as keyof typeof classes;
  const got = name === undefined ? 'of a class that PyTorch does not have' : `of ${name}`;
  throw stateDictError(
    `expected the state of ${Object.keys(classes).join(', ')}, got one ${got}: ${saw}. Open the model without its optimizer ` +
      'and train with a new one.',
  );
}

/** What the state of an optimizer must hold. An AdamW is an Adam, too: both hold the same. */
function partsOf(optimizer: Optimizer): readonly string[] {
  const names = Object.keys(classes) as (keyof typeof classes)[];
  const name = names.find((candidate) => optimizer instanceof classes[candidate]);
  return name === undefined ? [] : requiredParts[name];
}

/** A model's parameters in the groups of an optimizer's state dict. */
function parameterGroups(model: GPTModel, stateDict: ReadonlyMap<string, unknown>): { params: Parameter[] }[] {
  const { state, groups } = readStateDict(stateDict);
  return divide(model, groups, state).map((names) => ({ params: parametersOf(model, names) }));
}

/**
 * Which parameters are in each of a file's groups: by their names where it has them; else all in one group, or divided
 * by the family's rule, where the numbers of parameters agree.
 */
function divide(
  model: GPTModel,
  groups: readonly FileGroup[],
  state: ReadonlyMap<unknown, ParameterState>,
): string[][] {
  const named = groups.map(namesOf);
  if (named.every((names) => names !== undefined)) return named.map((names) => byKeys(model, names));
  const sizes = groups.map(({ params }) => params.length);
  const sets = [trainableNames(model), model.namedParameters().map(([name]) => name)];
  const divisions = sets.flatMap((names) => [[names], familyGroups(model, names)]);
  const fitting = divisions.find((division) => sameSizes(sizesInFile(model, division), sizes));
  if (fitting !== undefined) return fitting;
  const shapes = groups.map(({ params }) => params.map((index) => shapeOfState(state.get(index))));
  const part = divisions
    .map((division) => partOfDivision(model, division, shapes))
    .find((found) => found !== undefined);
  if (part !== undefined) return part;
  const expected = [...new Set(divisions.map((division) => describeSizes(sizesInFile(model, division))))];
  throw stateDictError(
    `its groups have ${describeSizes(sizes)} parameters and no names. ` +
      `A '${model.layout.name}' model of this config has ${expected.join(', or ')}. If its program froze the others, freeze ` +
      'them here too: open the model without its optimizer, set requiresGrad = false of these parameters, and pass the state ' +
      'dict to resumeOptimizer().',
  );
}

type Shape = readonly number[] | undefined;

/** The shape of the parameter that a state is of; undefined where the state has no tensor of it. */
function shapeOfState(values: ParameterState | undefined): Shape {
  const moment = [...(values ?? [])].find(([name, value]) => name !== 'step' && value instanceof Tensor);
  return (moment?.[1] as Tensor | undefined)?.shape;
}

/**
 * The parameters of a division that are in a file's groups, where others were frozen: found by the shapes of their state, in
 * order. Undefined where these fit nowhere, or at several places.
 */
function partOfDivision(
  model: GPTModel,
  division: readonly (readonly string[])[],
  groups: readonly (readonly Shape[])[],
): string[][] | undefined {
  if (division.length !== groups.length) return undefined;
  const parameters = new Map(model.namedParameters());
  const parts = division.map((names, i) => {
    const lines = table(model).filter(({ parameter }) => names.includes(parameter));
    // Of a parameter that the file has in pieces, some of the pieces could be taken for all.
    if (lines.some(({ rows }) => rows !== undefined)) return undefined;
    const shapes = lines.map(({ parameter, transpose }) => {
      const { shape } = parameters.get(parameter)!;
      return transpose === true ? [...shape].reverse() : shape;
    });
    return onlyPlaces(shapes, groups[i]!)?.map((place) => lines[place]!.parameter);
  });
  return parts.includes(undefined) ? undefined : (parts as string[][]);
}

/** Where all of `wanted` are in `shapes`, in order; undefined where they are not, or not in one way only. */
function onlyPlaces(shapes: readonly (readonly number[])[], wanted: readonly Shape[]): number[] | undefined {
  const fits = (place: number, i: number): boolean => wanted[i] === undefined || sameShape(shapes[place]!, wanted[i]);
  const first = places(shapes.length, wanted.length, fits);
  const last = places(shapes.length, wanted.length, (place, i) =>
    fits(shapes.length - 1 - place, wanted.length - 1 - i),
  )
    ?.map((place) => shapes.length - 1 - place)
    .reverse();
  // If only one assignment exists, the leftmost and the rightmost are equal.
  return first !== undefined && first.every((place, i) => place === last?.[i]) ? first : undefined;
}

/** The first place of each wanted item after the one before. */
function places(length: number, count: number, fits: (place: number, i: number) => boolean): number[] | undefined {
  const found: number[] = [];
  for (let place = 0; place < length && found.length < count; place++) if (fits(place, found.length)) found.push(place);
  return found.length === count ? found : undefined;
}

function byKeys(model: GPTModel, names: readonly string[]): string[] {
  const lines = new Map(table(model).map((line) => [line.key, line]));
  const keys = alignNames(names, lines);
  const strangers = keys.filter((key) => !lines.has(key));
  if (strangers.length > 0) {
    throw stateDictError(`its param_names name ${strangers.slice(0, 5).join(', ')}, which the model does not have.`);
  }
  return [...new Set(keys.map((key) => lines.get(key)!.parameter))];
}

/** The family's division of parameters, by their names here; one group where the family makes no more. */
function familyGroups(model: GPTModel, names: readonly string[]): string[][] {
  const rule = model.layout.optimizerGroups;
  if (rule === undefined) return [[...names]];
  const dims = new Map(model.namedParameters().map(([name, { ndim }]) => [name, ndim]));
  const wanted = new Set(names);
  const groups: [Set<string>, Set<string>] = [new Set(), new Set()];
  for (const line of table(model)) {
    if (wanted.has(line.parameter)) groups[rule.groupOf(line, dims.get(line.parameter)!)].add(line.parameter);
  }
  return groups.map((group) => [...group]);
}

/** The lines of the layout's table in the order in which the family's optimizer has them. */
function table({ layout, config }: GPTModel): KeyedParameter[] {
  const lines = layoutParameters(layout, config);
  if (layout.optimizerGroups?.order !== 'alphabetical') return lines;
  return lines.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
}

function sizesInFile(model: GPTModel, division: readonly (readonly string[])[]): number[] {
  const lines = table(model);
  return division.map((names) => lines.filter(({ parameter }) => names.includes(parameter)).length);
}

function sameSizes(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}

function describeSizes(sizes: readonly number[]): string {
  return sizes.join(' + ');
}

function trainable(model: GPTModel): Parameter[] {
  return model.parameters().filter(({ requiresGrad }) => requiresGrad);
}

function trainableNames(model: GPTModel): string[] {
  return model
    .namedParameters()
    .filter(([, { requiresGrad }]) => requiresGrad)
    .map(([name]) => name);
}

function parametersOf(model: GPTModel, names: readonly string[]): Parameter[] {
  const parameters = new Map(model.namedParameters());
  return names.map((name) => parameters.get(name)!);
}

function groupNames(model: GPTModel, optimizer: Optimizer): GroupNames {
  const names = new Map<Tensor, string>(model.namedParameters().map(([name, parameter]) => [parameter, name]));
  return optimizer.paramGroups.map(({ params }) =>
    params.map((parameter) => {
      const name = names.get(parameter);
      if (name !== undefined) return name;
      throw new TorchBindError(
        "The optimizer has a parameter that is not this model's.",
        'ERR_TORCHBIND_INVALID_ARGUMENT',
      );
    }),
  );
}
