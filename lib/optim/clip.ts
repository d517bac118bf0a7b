import { checkArgument, checkIterable, checkOptions, takes, TorchBindError } from '../errors';
import type { Parameter } from '../nn/parameter';
import { noGrad } from '../tensor/autograd';
import { zeros } from '../tensor/creation';
import { linalg, stack } from '../tensor/generated/functions';
import { tidy } from '../tensor/scope';
import { type Tensor, unwrap } from '../tensor/tensor';
import { byPlace } from './batches';
import { foreachMul_, foreachNorm } from './kernels';

/** Options of `clipGradNorm_`. */
export interface ClipGradNormOptions {
  /** Order of the norm; Infinity for the largest element. Default 2. */
  normType?: number;
  /** Throw when the norm is NaN or infinite, instead of scaling by it. Default false. */
  errorIfNonfinite?: boolean;
}

/**
 * Scales all gradients, in place, by min(1, maxNorm / (norm + 1e-6)), where norm is that of all of them together
 * (PyTorch's `torch.nn.utils.clip_grad_norm_`, bit for bit).
 *
 * @returns the norm before clipping, float32 ()
 * @throws ERR_TORCHBIND_NONFINITE_GRADIENT when `errorIfNonfinite` and the norm is NaN or infinite
 */
export const clipGradNorm_ = takes(
  3,
  function clipGradNorm_(parameters: Iterable<Parameter>, maxNorm: number, options: ClipGradNormOptions = {}): Tensor {
    checkOptions(options, ['normType', 'errorIfNonfinite'], 'clipGradNorm_');
    checkIterable(parameters, 'parameters', 'clipGradNorm_');
    const { normType = 2, errorIfNonfinite = false } = options;
    for (const [name, value] of Object.entries({ maxNorm, normType }))
      checkArgument(typeof value === 'number', `a number for '${name}'`, value, 'clipGradNorm_');
    return tidy(() =>
      noGrad(() => {
        const gradients = Array.from(parameters, (parameter) => checkParameter(parameter).grad).filter(
          (gradient) => gradient !== null,
        );
        if (gradients.length === 0) return zeros([]);
        const norm = totalNorm(gradients, normType);
        if (errorIfNonfinite && !Number.isFinite(norm.item())) {
          throw new TorchBindError(
            `The total norm of order ${normType} of the gradients is ${String(norm.item())}, so they cannot be clipped.`,
            'ERR_TORCHBIND_NONFINITE_GRADIENT',
          );
        }
        // Python computes `max_norm / tensor` as a reciprocal and a product.
        const coefficient = norm.add(1e-6).reciprocal().mul(maxNorm).clamp({ max: 1 });
        for (const group of byPlace(gradients)) foreachMul_(group, coefficient.to(group[0]!.device));
        return norm;
      }),
    );
  },
);

function checkParameter(parameter: Parameter): Parameter {
  unwrap(parameter, 'clipGradNorm_');
  return parameter;
}

function totalNorm(gradients: Tensor[], order: number): Tensor {
  const device = gradients[0]!.device;
  const norms = byPlace(gradients).flatMap((group) => foreachNorm(group, order));
  return linalg.vectorNorm(stack(norms.map((norm) => norm.to(device))), { ord: order });
}
