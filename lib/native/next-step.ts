/** Next steps for errors of libtorch. Its messages say what was expected and what was received. */
const STEPS: readonly (readonly [message: RegExp, step: string])[] = [
  [
    /shapes cannot be multiplied/,
    'The first must have as many columns as the second has rows: see both shapes, and transpose(-2, -1) where one is the other way round.',
  ],
  [
    /must match the size of tensor b/,
    'Sizes are compared from the last dimension and must be equal or 1; unsqueeze(dim) adds a dimension of size 1.',
  ],
  [/is invalid for input of size/, 'The sizes must multiply to the number of elements; one of them may be -1.'],
  [/only one dimension can be inferred/, 'Give all sizes but one.'],
  [/Sizes of tensors must match except/, 'Name the dimension to join along: cat(tensors, dim).'],
  [/stack expects each tensor/, 'Tensors that differ in one size are joined along it with cat(tensors, dim).'],
  [
    /^index out of range in self/,
    'An index is negative, or not below the number of rows of the table: compare ids with its first dimension (vocabSize).',
  ],
  [/scalar types: Long, Int/, "Indices are integers: make them from integral numbers, or convert with .to('int64')."],
  [/expected target dtype to be Long/, "Targets are numbers of classes: convert them with .to('int64')."],
  [/cannot be converted to Scalar/, 'item() reads one element; tolist() and toTypedArray() read all.'],
  [
    /Invalid device string|at start of device string/,
    "Devices are named 'cpu', 'cuda', 'cuda:1', 'meta'; dtypes 'float32', 'int64', ...",
  ],
  [
    /can't allocate memory|out of memory/,
    'Free tensors that are no longer needed with tidy() or dispose(), or compute on less at a time.',
  ],
  [
    /implicitly created only for scalar outputs/,
    'Reduce it with sum() or mean(), or give backward() a gradient of its shape.',
  ],
  [
    /does not require grad and does not have a grad_fn/,
    'Set requiresGrad on a tensor that it is computed from, and compute it outside noGrad().',
  ],
  [/backward through the graph a second time/, 'Here: backward(null, { retainGraph: true }).'],
  [/leaf Variable that requires grad/, 'Change it inside noGrad(() => ...), or change a clone().'],
  [/modified by an inplace operation/, 'Use the operator without the trailing underscore, or change a clone().'],
  [/Inference tensors cannot be saved/, 'Here: clone() it outside inferenceMode(), or use noGrad().'],
  [/floating point and complex dtype can require/, "Convert it first: .to('float32')."],
  [/appears to not have been used in the graph/, 'Here: { allowUnused: true }, which gives null for it.'],
  [/can't be cast to the desired output type/, 'Use the operator without the trailing underscore, or convert first.'],
  [/to have the same dtype/, 'Convert one with .to(dtype).'],
  [/could not infer output dtype/, "Convert first: .to('float32')."],
  [/expected a non-empty list of Tensors/, 'Give it at least one tensor.'],
  [/Storage size calculation overflowed/, 'No machine has so much memory: look at the sizes.'],
  [/Dimension size must be non-negative/, 'Sizes are numbers of elements, 0 or more.'],
  [/gradient must have the tensor's shape/, 'Convert it with .to(tensor), and reshape it.'],
  [/^invalid gradient at index/, 'Give backward() a gradient of the shape of the tensor that it is called on.'],
  [/RNG state must be/, 'Pass what getRngState() or generator.getState() gave.'],
  [/expects 'from' to be less than 'to'/, 'The lower bound comes first and is drawn, the upper one is not.'],
  [/only supports floating-point dtypes/, "Convert first: .to('float32')."],
  [/is not positive-definite/, 'Add a small multiple of the identity where rounding is the cause.'],
];

/** Replaces hints in libtorch's messages about Python or C++ by what applies here. */
const HINTS: readonly (readonly [hint: RegExp, here: string])[] = [
  [/ Specify retain_graph=True if [^.]*\./, ''], // the step says how
  [/ Set allow_unused=True if this is the desired behavior\./, ''],
  [/\s*Hint: enable anomaly detection [^]*?check_nan=False\)\./, ''],
  [/`torch\.no_grad\(\)` instead of `torch\.inference_mode\(\)`/, 'noGrad() instead of inferenceMode()'],
  [/in C\+\+, add `c10::InferenceMode mode;` before [^]*? \(see [^)]*\)/, 'use inferenceMode(() => ...)'],
  [/`tensor\.item\(\)` in Python or `tensor\.item<T>\(\)` in C\+\+/, 'item()'],
  [/use var_no_grad = var\.detach\(\)/, 'use detach()'],
  [/`with torch\.no_grad\(\):` block/, 'noGrad(() => ...)'],
  [
    /torch\.nn\.functional\.binary_cross_entropy_with_logits\s+or torch\.nn\.BCEWithLogitsLoss\.[^]*?safe to autocast/,
    'nn.functional.binaryCrossEntropyWithLogits, which is safe to autocast',
  ],
  [/torch\.sgn instead/, 'sgn() instead'],
  [/call `x = torch\.sparse_coo_tensor\(size\)`/, 'give the size alone'],
  [/ You can (also )?(ask on the forum|file an issue at) https?:[^]*?(change|operation)\./, ''],
  [/ ?If you're using torch\.compile\/export\/fx, [^]*?custom_ops_landing_page\.html/, ''],
];

/** The message with what to do next, where that is known. */
export function withNextStep(text: string): string {
  // A line of libtorch's source, and its condition.
  const plain = text.replace(/^\[enforce fail at [^\]]*\] [^.]*\. /, '');
  const message = HINTS.reduce((changed, [hint, here]) => changed.replace(hint, here), plain);
  const step = STEPS.find(([pattern]) => pattern.test(message))?.[1];
  if (step === undefined || message.includes(step)) return message;
  return `${message}${/[.!?]$/.test(message) ? '' : '.'} ${step}`;
}
