/** Mistakes with gradients and modes. */
import { grad, inferenceMode, noGrad, ones, tensor } from '../../lib/index';
import { describeMistakes, wrong } from '../helpers/mistakes';
import type { Mistake } from '../helpers/mistakes';

const mistakes: Mistake[] = [
  [
    'a misspelled option of backward',
    () =>
      ones(1)
        .requiresGrad_()
        .sum()
        .backward(null, wrong({ retainGrap: true })),
    'UNKNOWN_OPTION',
    "backward(): unknown option 'retainGrap'. Did you mean 'retainGraph'?",
  ],
  [
    'a mode around an async function',
    () => noGrad(() => Promise.resolve(1)),
    'ASYNC_MODE',
    'noGrad: code behind a promise would run on after it returns, out of its mode. Give a plain function, and await or iterate outside of it.',
  ],
  [
    'backward from many values',
    () => ones(2).requiresGrad_().mul(2).backward(),
    'TORCH',
    'grad can be implicitly created only for scalar outputs. Reduce it with sum() or mean(), or give backward() a gradient of its shape.',
  ],
  [
    'backward without a graph',
    () => ones(1).backward(),
    'TORCH',
    'element 0 of tensors does not require grad and does not have a grad_fn. Set requiresGrad on a tensor that it is computed from, and compute it outside noGrad().',
  ],
  [
    'backward twice',
    () => {
      const x = ones(2).requiresGrad_();
      const y = x.mul(x).sum();
      y.backward();
      y.backward();
    },
    'TORCH',
    'Trying to backward through the graph a second time (or directly access saved tensors after they have already been freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Here: backward(null, { retainGraph: true }).',
  ],
  [
    'a leaf changed in place',
    () => ones(2).requiresGrad_().add_(1),
    'TORCH',
    'a leaf Variable that requires grad is being used in an in-place operation. Change it inside noGrad(() => ...), or change a clone().',
  ],
  [
    'a saved tensor changed in place',
    () => {
      const x = ones(2).requiresGrad_();
      const y = x.exp();
      y.add_(1);
      y.sum().backward();
    },
    'TORCH',
    'one of the variables needed for gradient computation has been modified by an inplace operation: [CPUFloatType [2]], which is output 0 of Exp, is at version 1; expected version 0 instead. Use the operator without the trailing underscore, or change a clone().',
  ],
  [
    'an inference tensor in autograd',
    () => {
      const x = inferenceMode(() => ones(2));
      const w = ones(2).requiresGrad_();
      w.mul(x);
    },
    'TORCH',
    'Inference tensors cannot be saved for backward. Please do not use Tensors created in inference mode in computation tracked by autograd. To work around this, you can make a clone to get a normal tensor and use it in autograd, or use noGrad() instead of inferenceMode(). Here: clone() it outside inferenceMode(), or use noGrad().',
  ],
  [
    'a gradient for integers',
    () => tensor([1, 2]).requiresGrad_(),
    'TORCH',
    "Only Tensors of floating point and complex dtype can require gradients. Convert it first: .to('float32').",
  ],
  [
    'requiresGrad unset on a computed tensor',
    () => {
      const y = ones(2).requiresGrad_().mul(2);
      y.requiresGrad = false;
    },
    'TORCH',
    'requiresGrad of a computed tensor cannot be unset. Use detach(), which has no graph.',
  ],
  [
    'a gradient for what was not used',
    () => {
      const x = ones(1).requiresGrad_();
      const z = ones(1).requiresGrad_();
      return grad(x.mul(2).sum(), z);
    },
    'TORCH',
    'element 0of the differentiated Tensors appears to not have been used in the graph. Here: { allowUnused: true }, which gives null for it.',
  ],
  [
    'a grad of another shape',
    () => {
      const x = ones(2).requiresGrad_();
      x.grad = ones(3);
    },
    'INVALID_ARGUMENT',
    "The gradient must have the tensor's shape, dtype and device. Convert it with .to(tensor), and reshape it.",
  ],
  [
    'a gradient of another shape for backward',
    () => ones(2).requiresGrad_().mul(2).backward(ones(3)),
    'TORCH',
    'invalid gradient at index 0 - got [3] but expected shape compatible with [2]. Give backward() a gradient of the shape of the tensor that it is called on.',
  ],
];

describeMistakes(mistakes);
