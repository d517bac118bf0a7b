/** Mistakes with layers, optimizers, models and their files. */
import { full, GPT, load, nn, ones, optim, tensor, zeros } from '../../lib/index';
import { describeMistakes, wrong } from '../helpers/mistakes';
import type { Mistake } from '../helpers/mistakes';

const config = { vocabSize: 8, blockSize: 4, nLayer: 1, nHead: 2, nEmbd: 4 };

const mistakes: Mistake[] = [
  [
    'targets that are no class numbers',
    () => nn.functional.crossEntropy(ones(2, 3), ones(2)),
    'TORCH',
    "expected target dtype to be Long or Byte, but got Float. Targets are numbers of classes: convert them with .to('int64').",
  ],
  [
    'an input of the wrong width for a layer',
    () => new nn.Linear(3, 2).forward(ones(1, 4)),
    'TORCH',
    'mat1 and mat2 shapes cannot be multiplied (1x4 and 3x2). The first must have as many columns as the second has rows: see both shapes, and transpose(-2, -1) where one is the other way round.',
  ],
  [
    'an id beyond an embedding',
    () => new nn.Embedding(4, 2).forward(tensor([4])),
    'INDEX',
    'index out of range in self. An index is negative, or not below the number of rows of the table: compare ids with its first dimension (vocabSize).',
  ],
  [
    'ids that are no integers',
    () => new nn.Embedding(4, 2).forward(tensor([0.5])),
    'TORCH',
    "Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but got CPUFloatType instead (while checking arguments for embedding). Indices are integers: make them from integral numbers, or convert with .to('int64').",
  ],
  [
    'a misspelled option of a layer',
    () => new nn.Linear(2, 2, wrong({ bais: false })),
    'UNKNOWN_OPTION',
    "Linear: unknown option 'bais'. Did you mean 'bias'?",
  ],
  [
    'a state dict of another module',
    () =>
      new nn.Linear(2, 2).loadStateDict(
        new Map([
          ['weight', ones(3, 2)],
          ['bais', ones(2)],
        ]),
      ),
    'STATE_DICT',
    [
      'Error(s) in loading state_dict for Linear:',
      '\tMissing key(s) in state_dict: "bias".',
      '\tUnexpected key(s) in state_dict: "bais".',
      '\tsize mismatch for weight: copying a param with shape torch.Size([3, 2]) from checkpoint, the shape in current model is torch.Size([2, 2]).',
    ].join('\n'),
  ],
  [
    'a plain object as a state dict',
    () => new nn.Linear(2, 2).loadStateDict(wrong({ weight: ones(2, 2) })),
    'INVALID_ARGUMENT',
    'loadStateDict: expected a Map from names to tensors, got Object object. An object becomes one with new Map(Object.entries(object)).',
  ],
  [
    'an optimizer without parameters',
    () => new optim.AdamW([]),
    'INVALID_ARGUMENT',
    'An optimizer got an empty list of parameters. Pass model.parameters().',
  ],
  [
    'an optimizer over a plain tensor',
    () => new optim.AdamW(wrong([ones(2)])),
    'INVALID_ARGUMENT',
    'An optimizer: expected Parameters, got Tensor object. Make it one: new nn.Parameter(tensor).',
  ],
  [
    'a negative learning rate',
    () => new optim.AdamW(new nn.Linear(2, 2).parameters(), { lr: -1 }),
    'INVALID_ARGUMENT',
    "AdamW: expected 0 or more for 'lr', got -1.",
  ],
  [
    'an option that an optimizer does not have',
    () => new optim.AdamW(new nn.Linear(2, 2).parameters(), wrong({ learningRate: 1 })),
    'UNKNOWN_OPTION',
    "AdamW: unknown option 'learningRate'. Known options: lr, betas, eps, weightDecay, amsgrad, maximize.",
  ],
  [
    'heads that do not divide the width',
    () => new GPT({ ...config, nHead: 3 }),
    'CONFIG',
    'GPT config: nEmbd must be a multiple of nHead, which is 3, but is number 4.',
  ],
  [
    'a misspelled entry of a configuration',
    () => new GPT(wrong({ ...config, nLayers: 2 })),
    'UNKNOWN_OPTION',
    "GPT config: unknown option 'nLayers'. Did you mean 'nLayer'?",
  ],
  [
    'a model without layers',
    () => new GPT({ ...config, nLayer: 0 }),
    'CONFIG',
    'GPT config: nLayer must be a whole number above 0, but is number 0.',
  ],
  [
    'more tokens than the context',
    () => new GPT(config).forward(zeros([1, 5], { dtype: 'int64' })),
    'CONTEXT_FULL',
    "Expected at most 4 tokens, the model's context (blockSize), got 5. Pass only the last ones.",
  ],
  [
    'a token id beyond the vocabulary',
    () => new GPT(config).forward(full([1, 2], 8)),
    'INDEX',
    'index out of range in self. An index is negative, or not below the number of rows of the table: compare ids with its first dimension (vocabSize).',
  ],
  [
    'token ids that are no integers',
    () => new GPT(config).forward(ones(1, 2)),
    'TORCH',
    "Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but got CPUFloatType instead (while checking arguments for embedding). Indices are integers: make them from integral numbers, or convert with .to('int64').",
  ],
  [
    'text for a model without a tokenizer',
    () => new GPT(config).generate('x', { maxNewTokens: 1 }),
    'NO_TOKENIZER',
    'generate: the model has no tokenizer, so it cannot read or write text. Give it one (new GPT(config, { tokenizer }), or gpt.tokenizer = ...), or use token ids: generateTokens(), generateSequences(), evaluate(ids).',
  ],
  [
    'a file that is not there',
    () => load('/nowhere/model.pt'),
    'CHECKPOINT_OPEN',
    '/nowhere/model.pt: cannot open the file: no such file',
  ],
];

describeMistakes(mistakes);
