import { checkArgument, checkOptions, takes, TorchBindError } from '../../errors';
import { Function as AutogradFunction, type FunctionContext } from '../../tensor/autograd/function';
import { isAutocastEnabled, isGradEnabled } from '../../tensor/autograd';
import { checkTensor } from '../../tensor/creation';
import { emptyLike, linear, logSoftmax, mm, nllLossNd } from '../../tensor/generated/functions';
import { tidy } from '../../tensor/scope';
import type { Tensor } from '../../tensor/tensor';
import { type ClassLossOptions, crossEntropy, type CrossEntropyOptions } from './losses';
import { reductionCode } from './reduction';
import type { DeviceName } from '../../tensor/schema-types';

/** How `linearCrossEntropy` divides its work (PyTorch's `LinearCrossEntropyOptions`). */
export interface LinearCrossEntropyChunking {
  /** Rows of the input in a chunk. Default: half of them, and at least 256. (PyTorch's default is a few rows, for GPUs.) */
  batchChunkSize?: number;
  /** Allow a second backward pass, at the price of a copy of the gradients. Default false. */
  allowRetainGraph?: boolean;
}

export interface LinearCrossEntropyOptions extends CrossEntropyOptions {
  /** Added to the logits (C). */
  linearBias?: Tensor | null;
  /**
   * Computes the logits in chunks, which are never all in memory at a time; null (default) all at once. For `reduction` `mean` and
   * `sum`, class indices, float32 and float64 without autocast; anything else is computed all at once.
   */
  options?: LinearCrossEntropyChunking | null;
}

const own = ['linearBias', 'options', 'weight', 'ignoreIndex', 'reduction', 'labelSmoothing'];

/**
 * Cross-entropy of the logits `linear(input, linearWeight, linearBias)` (PyTorch's `linear_cross_entropy`). With `options`
 * the gradients are computed with the loss, chunk by chunk: higher-order derivatives are then unavailable.
 *
 * @param input (N, F) or (F)
 * @param linearWeight (C, F)
 * @param target class indices, int64 (N) or (), or class probabilities (N, C)
 */
export const linearCrossEntropy = takes(
  4,
  function linearCrossEntropy(
    input: Tensor,
    linearWeight: Tensor,
    target: Tensor,
    options: LinearCrossEntropyOptions = {},
  ): Tensor {
    checkOptions(options, own, 'linearCrossEntropy');
    const { linearBias = null, options: chunking = null, ...loss } = options;
    reductionCode(loss.reduction, 'linearCrossEntropy');
    if (chunking === null || !canChunk(input, linearWeight, target, loss))
      return crossEntropy(linear(input, linearWeight, linearBias), target, loss);
    for (const [name, value] of Object.entries({ linearBias, weight: loss.weight ?? null }))
      if (value !== null) checkTensor(value, `linearCrossEntropy: ${name}`);
    checkOptions(chunking, ['batchChunkSize', 'allowRetainGraph'], 'linearCrossEntropy options');
    const rows = input.ndim === 1 ? input.unsqueeze(0) : input;
    const targets = input.ndim === 1 ? target.unsqueeze(0) : target;
    const plan = {
      ...loss,
      chunk: chunkRows(rows, chunking),
      retain: chunking.allowRetainGraph === true,
      records: isGradEnabled(),
    };
    return ChunkedLinearCrossEntropy.apply(rows, linearWeight, linearBias, targets, plan);
  },
);

function canChunk(input: Tensor, linearWeight: Tensor, target: Tensor, loss: CrossEntropyOptions): boolean {
  return (
    loss.reduction !== 'none' &&
    (loss.labelSmoothing ?? 0) === 0 &&
    target.dtype === 'int64' &&
    (input.dtype === 'float32' || input.dtype === 'float64') &&
    linearWeight.dtype === input.dtype &&
    !isAutocastEnabled(input.device.split(':')[0] as DeviceName) &&
    linearWeight.ndim === 2 &&
    (input.ndim === 1 || input.ndim === 2)
  );
}

function chunkRows(input: Tensor, { batchChunkSize }: LinearCrossEntropyChunking): number {
  const N = input.size(0);
  // Each chunk goes over the whole gradient of the weight once more: smaller ones cost more time than they save memory.
  if (batchChunkSize === undefined) return Math.min(N, Math.max(256, Math.ceil(N / 2)));
  const isCount = Number.isSafeInteger(batchChunkSize) && batchChunkSize > 0;
  checkArgument(isCount, "a positive integer for 'batchChunkSize'", batchChunkSize, 'linearCrossEntropy');
  return Math.max(1, Math.min(batchChunkSize, N));
}

interface Plan extends ClassLossOptions {
  /** Rows of a chunk. */
  chunk: number;
  /** Whether the gradients may be used more than once. */
  retain: boolean;
  /** Whether autograd records. */
  records: boolean;
}

type Context = FunctionContext & { retain: boolean; used: boolean };

class ChunkedLinearCrossEntropy extends AutogradFunction {
  static forward(ctx: Context, x: Tensor, w: Tensor, bias: Tensor | null, target: Tensor, plan: Plan): Tensor {
    const { chunk, retain, records, reduction = 'mean', weight = null, ignoreIndex = -100 } = plan;
    const [forX = false, forW = false, forBias = false] = ctx.needsInputGrad.map((needs) => needs && records);
    const N = x.size(0);
    const ignored = target.eq(ignoreIndex); // (N)
    const classes = target.maskedFill(ignored, 0); // (N)
    const counts =
      weight === null ? ignored.logicalNot().to(x.dtype) : weight.gather(0, classes).mul(ignored.logicalNot());
    const total = reduction === 'mean' ? counts.sum() : null; // ()
    const factors = total === null ? counts : counts.div(total); // (N): what a row's loss counts for
    const gradX = forX ? emptyLike(x) : null; // (N, F)
    const grads: { w: Tensor | null; bias: Tensor | null } = { w: null, bias: null }; // (C, F), (C)
    let loss: Tensor | null = null; // ()
    for (let from = 0; from < N; from += chunk) {
      const rows = Math.min(chunk, N - from);
      const part = tidy(() => {
        const at = (tensor: Tensor): Tensor => tensor.narrow(0, from, rows);
        const logProbabilities = logSoftmax(linear(at(x), w, bias), 1); // (rows, C)
        const sum = nllLossNd(logProbabilities, at(target), weight, SUM, ignoreIndex);
        if (!forX && !forW && !forBias) return { sum, w: null, bias: null };
        // The gradient of a row's loss with respect to its logits: probabilities, less 1 at the target.
        const gradient = logProbabilities.exp_(); // (rows, C)
        const index = at(classes).unsqueeze(1); // (rows, 1)
        gradient.scatterAdd_(1, index, gradient.newFull([rows, 1], -1));
        const factor = at(factors).unsqueeze(1); // (rows, 1)
        if (gradX !== null) at(gradX).copy_(mm(gradient, w).mul_(factor));
        const scaled = at(x).mul(factor); // (rows, F)
        const transposed = gradient.t(); // (C, rows)
        const nextW = !forW ? null : grads.w === null ? mm(transposed, scaled) : grads.w.addmm_(transposed, scaled);
        const ofBias = forBias ? mm(transposed, factor).squeeze(1) : null; // (C)
        const nextBias = ofBias === null || grads.bias === null ? ofBias : grads.bias.add_(ofBias);
        return { sum, w: nextW, bias: nextBias };
      });
      grads.w = part.w;
      grads.bias = part.bias;
      loss = loss === null ? part.sum : loss.add(part.sum);
    }
    ctx.saveForBackward(gradX, grads.w, grads.bias);
    ctx.retain = retain;
    ctx.used = false;
    return total === null ? loss! : loss!.div(total);
  }

  static backward(ctx: Context, gradOutput: Tensor): (Tensor | null)[] {
    if (ctx.used && !ctx.retain) {
      throw new TorchBindError(
        'linearCrossEntropy: the gradients were computed together with the loss, and the first backward pass has consumed them. To call ' +
          'backward() again, pass { options: { allowRetainGraph: true } }.',
        'ERR_TORCHBIND_AUTOGRAD_FUNCTION',
      );
    }
    ctx.used = true;
    // Without a GPU to wait for, a look at the number saves a pass over the gradients.
    const isOne = gradOutput.device === 'cpu' && gradOutput.item() === 1;
    const scale = (gradient: Tensor | null): Tensor | null => {
      if (gradient === null) return null;
      if (isOne && !ctx.retain) return gradient;
      return ctx.retain ? gradient.mul(gradOutput) : gradient.mul_(gradOutput);
    };
    const [x = null, w = null, bias = null] = ctx.savedTensors as readonly (Tensor | null)[];
    return [scale(x), scale(w), scale(bias), null, null];
  }
}

/** aten's number for the reduction `sum`. */
const SUM = 2;
