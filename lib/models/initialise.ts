import { Embedding } from '../nn/embedding';
import { OnePlusRMSNorm } from '../nn/rms-norm';
import { normal_, ones_, zeros_ } from '../nn/init';
import { initLinearBias_, initLinearWeight_, Linear } from '../nn/linear';
import type { Module } from '../nn/module';
import type { Parameter } from '../nn/parameter';
import { emptyLike } from '../tensor/generated/functions';
import { noGrad } from '../tensor/autograd';
import { tidy } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';
import type { GPTConfig } from './config';
import { isParameterLine, partOf } from './layouts/layout';
import type { Initialisation, CheckpointLayout, LayoutParameter } from './layouts/layout';

/** The tensors that one module of the family's model draws. */
interface Draw {
  kind: 'linear' | 'embedding' | 'norm' | 'one-plus-norm';
  weight: Tensor;
  /** The weight once it is tied: another than `weight` for a tied one. */
  shared: Tensor;
  bias: Tensor | undefined;
}

/**
 * Draws initial weights as the family's own Python program does, module by module in its order: from the same seed the
 * weights are the same bit for bit, although they lie here in fused parameters.
 */
export function initialise(model: Module, layout: CheckpointLayout, config: GPTConfig): void {
  noGrad(() =>
    tidy(() => {
      const parts = { modules: new Map(model.namedModules()), parameters: new Map(model.namedParameters()) };
      const draws = layout
        .modules(config)
        .flatMap(({ tensors }) => drawOf(parts, tensors.filter(isParameterLine)) ?? []);
      draws.forEach(drawDefault);
      if (layout.initialisation !== 'pytorch') draws.forEach(drawNormal);
      if (layout.initialisation in RESIDUALS)
        drawResiduals(parts.parameters, config, RESIDUALS[layout.initialisation]!);
    }),
  );
}

/** What a model is made of, by name. */
interface Parts {
  modules: ReadonlyMap<string, Module>;
  parameters: ReadonlyMap<string, Parameter>;
}

function drawOf({ modules, parameters }: Parts, [weight, bias]: LayoutParameter[]): Draw | undefined {
  if (weight === undefined) return undefined;
  const tensor = (line: LayoutParameter): Tensor => partOf(parameters.get(line.parameter)!.detach(), line);
  const owner = modules.get(weight.parameter.replace(/\.[^.]*$/, ''));
  const kind =
    owner instanceof Linear || weight.alias ? 'linear' : owner instanceof Embedding ? 'embedding' : normOf(owner);
  // The Python model draws a weight of its own before it ties it to another.
  const own = weight.alias === true ? emptyLike(tensor(weight)) : tensor(weight);
  return { kind, weight: own, shared: tensor(weight), bias: bias === undefined ? undefined : tensor(bias) };
}

function normOf(owner: Module | undefined): Draw['kind'] {
  return owner instanceof OnePlusRMSNorm ? 'one-plus-norm' : 'norm';
}

function drawDefault({ kind, weight, bias }: Draw): void {
  if (kind === 'embedding') normal_(weight);
  else if (kind === 'linear') {
    initLinearWeight_(weight);
    if (bias !== undefined) initLinearBias_(bias, weight);
  } else if (kind === 'one-plus-norm') {
    zeros_(weight);
  } else {
    ones_(weight);
    if (bias !== undefined) zeros_(bias);
  }
}

function drawNormal({ kind, shared, bias }: Draw): void {
  if (kind === 'norm' || kind === 'one-plus-norm') return;
  normal_(shared, 0, 0.02);
  if (bias !== undefined) zeros_(bias);
}

const RESIDUALS: Partial<Record<Initialisation, RegExp>> = {
  gpt2: /\.(attn\.proj|mlp\.down)\.weight$/,
  gpt2_mlp: /\.mlp\.down\.weight$/,
};

/** GPT-2's rule: what adds to the residual stream starts smaller the more of it there is. */
function drawResiduals(parameters: ReadonlyMap<string, Parameter>, { nLayer }: GPTConfig, which: RegExp): void {
  for (const [name, parameter] of parameters) {
    if (which.test(name)) normal_(parameter.detach(), 0, 0.02 / Math.sqrt(2 * nLayer));
  }
}
