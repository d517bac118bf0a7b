// Every case runs on the CPU and on the device from the same values: results and gradients are compared.
import { format, relativeDifference } from '../context.mjs';
import { operatorCases } from '../operator-cases.mjs';

/**
 * Largest difference relative to the largest value of the result. Elementwise kernels differ by a few units in the last place
 * (2^-24 = 6e-8), sums by their order; decompositions lose what the matrix's condition makes of that.
 */
const ALLOWED = {
  elementwise: 5e-6,
  reductions: 5e-6,
  shapes: 1e-6,
  'two tensors': 5e-6,
  'linear algebra': 2e-3,
  Fourier: 1e-5,
  'networks and indices': 2e-5,
};
const LEAST_CASES = 300;

export async function run(context, tb) {
  tb.backends.cudnn.allowTf32 = false; // convolutions in float32, as on the CPU
  const cases = operatorCases();
  await context.check('number of operators', () => ({
    ok: cases.length >= LEAST_CASES,
    measured: String(cases.length),
    allowed: `>= ${LEAST_CASES}`,
  }));
  const groups = new Map();
  for (const one of cases) {
    const group = groups.get(one.group) ?? {
      count: 0,
      worst: 0,
      worstGradient: 0,
      gradients: 0,
      name: '',
      gradientName: '',
    };
    groups.set(one.group, group);
    try {
      const { value, gradient } = compare(tb, one, context.device);
      group.count++;
      if (value >= group.worst) Object.assign(group, { worst: value, name: one.name });
      if (gradient === undefined) continue;
      group.gradients++;
      if (gradient >= group.worstGradient) Object.assign(group, { worstGradient: gradient, gradientName: one.name });
    } catch (error) {
      await context.check(`${one.group}: ${one.name}`, () => ({ ok: false, note: error.message }));
    }
  }
  for (const [name, { count, worst, name: at }] of groups)
    report(context, `${name}, ${count} results`, worst, name, at);
  for (const [name, { gradients, worstGradient, gradientName }] of groups)
    report(context, `${name}, ${gradients} gradients`, worstGradient, name, gradientName);
}

function report(context, title, worst, group, at) {
  const allowed = ALLOWED[group];
  context.check(title, () => ({
    ok: worst <= allowed,
    measured: format(worst),
    allowed: `<= ${format(allowed)}`,
    note: at,
  }));
}

/** Differences of the result and of the gradient of a weighted sum; no gradient where the result has no graph. */
function compare(tb, { name, inputs, call }, device) {
  return tb.tidy(() => {
    tb.manualSeed(hash(name));
    const values = Array.from({ length: inputs }, () => tb.randn(8, 6));
    const sides = ['cpu', device].map((on) => {
      const leaves = values.map((value) => value.to({ device: on, copy: true }).requiresGrad_());
      const result = call(tb, ...leaves);
      return { leaves, result };
    });
    const [own, other] = sides.map(({ result }) => (result.dtype === 'bool' ? result.to('float32') : result));
    const value = relativeDifference(tb, other, own);
    if (sides.some(({ result }) => !result.requiresGrad)) return { value };
    const weights = tb.randn(own.shape);
    for (const { result } of sides) result.mul(weights.to(result.device)).sum().backward();
    const gradients = sides.map(({ leaves }) => leaves.map((leaf) => leaf.grad ?? tb.zerosLike(leaf)));
    const differences = gradients[0].map((gradient, i) => relativeDifference(tb, gradients[1][i], gradient));
    return { value, gradient: Math.max(...differences) };
  });
}

/** A seed of its own for each case, so that adding one does not change the others. */
function hash(text) {
  return [...text].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 1_000_003, 7);
}
