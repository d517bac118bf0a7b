/** Repeats in torchbind what `samples.py` did in Python, and compares. */
import * as torchbind from '../../lib/index';
import { dispose, grad, load, manualSeed, noGrad, tidy } from '../../lib/index';
import type { Tensor } from '../../lib/index';
import { camelCase } from '../../lib/tensor/operator';
import { difference, plainValue } from './compare';
import type { Comparison, Expected } from './compare';

interface Call {
  $: 'call';
  name: string;
  form: 'function' | 'method' | 'attribute';
  args: unknown[];
  options: Record<string, unknown>;
  pick: number | number[] | null;
}

interface Case {
  op: string;
  dtype: string;
  seed: number;
  unset: boolean;
  call: Call;
  method: string | null;
  output: Expected;
  /** Tensors that the operator wrote into: where each stands before the call, and what it was afterwards. */
  changed: [number, Expected][];
  gradient?: { inputs: number[]; weights: number[]; found?: Expected[]; error?: string };
  inPlace?: { name: string; output: Expected };
}

/** The ways in which a sample is run. */
export const FORMS = ['function', 'gradient', 'method', 'inPlace'] as const;
export type Form = (typeof FORMS)[number];

/** What came of one operator's samples. */
export interface Outcome {
  /** By form: how many were run, and how many of them gave what Python gave. */
  run: Record<Form, number>;
  equal: Record<Form, number>;
  /** How the others differ, each with the first sample that does. */
  problems: Map<string, string>;
}

/** Runs the cases of one file and adds what came of them to `outcomes`, by operator. */
export async function replay(file: string, outcomes: Map<string, Outcome>): Promise<void> {
  const [text, tensors] = (await load(file)) as [string, Tensor[]];
  for (const item of JSON.parse(text) as Case[]) {
    const outcome = outcomes.get(item.op) ?? emptyOutcome();
    outcomes.set(item.op, outcome);
    tidy(() => runCase(item, tensors, outcome));
  }
  dispose(tensors);
}

function emptyOutcome(): Outcome {
  const zero = { function: 0, gradient: 0, method: 0, inPlace: 0 };
  return { run: { ...zero }, equal: { ...zero }, problems: new Map() };
}

function runCase(item: Case, tensors: readonly Tensor[], outcome: Outcome): void {
  const context: Comparison = { tensors, unset: item.unset };
  const inputs = (item.gradient?.inputs ?? []).map((at) => tensors[at]!);
  for (const input of inputs) input.requiresGrad = true;
  let output: unknown;
  const record = (form: Form, work: () => string | undefined): void => {
    outcome.run[form]++;
    const problem = attempt(work);
    if (problem === undefined) outcome.equal[form]++;
    else if (!outcome.problems.has(`${form}: ${problem}`))
      outcome.problems.set(`${form}: ${problem}`, `${item.dtype} ${JSON.stringify(item.call).slice(0, 600)}`);
  };

  record('function', () => {
    manualSeed(item.seed);
    output = evaluate(item.call, tensors);
    const found = difference(output, item.output, context);
    return found ?? changes(item, context);
  });
  const gradient = item.gradient;
  if (gradient !== undefined) record('gradient', () => differentiate(output, inputs, gradient, context));
  const { method, inPlace, call } = item;
  if (method !== null) {
    record('method', () => {
      manualSeed(item.seed);
      return difference(evaluate({ ...call, name: method, form: 'method' }, tensors), item.output, context);
    });
  }
  if (inPlace !== undefined) {
    for (const input of inputs) input.requiresGrad = false;
    record('inPlace', () => difference(changeCopy(item, inPlace.name, tensors), inPlace.output, context));
  }
}

/** Runs the work; an exception is a difference as well. */
function attempt(work: () => string | undefined): string | undefined {
  try {
    return work();
  } catch (error) {
    return String((error as Error).message)
      .split('\n')[0]!
      .slice(0, 300);
  }
}

function changes(item: Case, context: Comparison): string | undefined {
  for (const [at, expected] of item.changed) {
    const found = difference(context.tensors[at], expected, context);
    if (found !== undefined) return `a changed argument: ${found}`;
  }
  return undefined;
}

function changeCopy(item: Case, name: string, tensors: readonly Tensor[]): unknown {
  const [first, ...rest] = item.call.args;
  const copy = (decode(first, tensors) as Tensor).clone();
  manualSeed(item.seed);
  return noGrad(() => invoke(copy, camelCase(name), rest, item.call.options, tensors));
}

function differentiate(
  output: unknown,
  inputs: readonly Tensor[],
  gradient: NonNullable<Case['gradient']>,
  context: Comparison,
): string | undefined {
  const outputs = flat(output).filter((tensor) => tensor.requiresGrad);
  if (outputs.length !== gradient.weights.length) {
    return `${outputs.length} outputs have gradients instead of ${gradient.weights.length}`;
  }
  const gradOutputs = gradient.weights.map((at) => context.tensors[at]!);
  const compute = (): (Tensor | null)[] => grad(outputs, inputs, { gradOutputs, allowUnused: true });
  if (gradient.found !== undefined) return difference(compute(), gradient.found, context);
  try {
    compute();
  } catch (error) {
    const message = (error as Error).message;
    return gradient.error!.startsWith(message.slice(0, 40)) ? undefined : `refused otherwise: ${message}`;
  }
  return 'Python refuses this gradient';
}

function flat(value: unknown): Tensor[] {
  if (Array.isArray(value)) return value.flatMap(flat);
  return value instanceof torchbind.Tensor ? [value] : [];
}

function evaluate(call: Call, tensors: readonly Tensor[]): unknown {
  const result = call.form === 'function' ? callFunction(call, tensors) : callMember(call, tensors);
  if (call.pick === null) return result;
  const results = result as unknown[];
  return Array.isArray(call.pick) ? call.pick.map((i) => results[i]) : results[call.pick];
}

function callFunction(call: Call, tensors: readonly Tensor[]): unknown {
  const path = call.name.split('.');
  const space = lookUp(path.slice(0, -1));
  const last = path[path.length - 1]!;
  return invoke(space, path[0] === 'ops' ? last : camelCase(last), call.args, call.options, tensors);
}

function callMember(call: Call, tensors: readonly Tensor[]): unknown {
  const [first, ...rest] = call.args;
  const target = decode(first, tensors) as Record<string, unknown>;
  if (call.form === 'attribute') return target[call.name];
  return invoke(target, camelCase(call.name), rest, call.options, tensors);
}

function lookUp(path: readonly string[]): unknown {
  return path.reduce<unknown>((space, name) => {
    const found = (space as Record<string, unknown>)[name];
    if (found === undefined) throw new Error(`torchbind has no ${path.join('.')}`);
    return found;
  }, torchbind);
}

function invoke(
  target: unknown,
  name: string,
  args: readonly unknown[],
  options: Record<string, unknown>,
  tensors: readonly Tensor[],
): unknown {
  const found = (target as Record<string, unknown>)[name];
  if (typeof found !== 'function') {
    const kind = target instanceof torchbind.Tensor ? 'method' : 'function';
    throw new Error(`torchbind has no ${kind} ${name}`);
  }
  const values = args.map((arg) => decode(arg, tensors));
  const entries = Object.entries(options).map(([key, value]) => [camelCase(key), decode(value, tensors)] as const);
  if (entries.length > 0) values.push(Object.fromEntries(entries));
  return Reflect.apply(found, target, values);
}

function decode(value: unknown, tensors: readonly Tensor[]): unknown {
  if (Array.isArray(value)) return value.map((item) => decode(item, tensors));
  if (typeof value !== 'object' || value === null) return value;
  const marked = value as { $: string; at: number };
  if (marked.$ === 'tensor') return tensors[marked.at];
  return marked.$ === 'call' ? evaluate(value as Call, tensors) : plainValue(marked);
}
