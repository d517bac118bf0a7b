import type { Option } from 'commander';
import { allowMixed, checkpointDirectory, count, device, flag, jsonFlag, number, toggle } from './flags';
import type { DeviceName } from '../tensor/schema-types';

/** The values of the flags of `torchbind train`. */
export interface TrainFlags {
  modelName?: string;
  inputFile?: string;
  tokenization?: 'gpt2' | 'char' | 'character' | 'custom_bpe';
  tokenizer?: string;
  customVocabSize?: number;
  initFromModel?: string;
  device?: DeviceName;
  blockSize?: number;
  nEmbd?: number;
  nHead?: number;
  nLayer?: number;
  dropout?: number;
  bias?: boolean;
  maxIters?: number;
  batchSize?: number;
  gradientAccumulationSteps?: number;
  learningRate?: number;
  schedule?: 'constant' | 'linear' | 'cosine';
  warmupIters?: number;
  useLrWarmup?: boolean;
  lrDecayIters?: number;
  minLr?: number;
  weightDecay?: number;
  beta1?: number;
  beta2?: number;
  gradClip?: number;
  precision?: 'float32' | 'bfloat16' | 'float16';
  activationCheckpointing?: boolean;
  chunkedLoss?: boolean;
  dataOrder?: 'random' | 'epochs';
  seed?: number;
  evalInterval: number;
  evalIters: number;
  patience?: number;
  testMode?: boolean;
  checkpointDir: string;
  checkpointInterval?: number;
  keep?: number;
  metrics?: boolean;
  logDir?: string;
  resumeTrainingSteps?: number;
  resumeSteps?: number;
  allowMixed?: boolean;
  resumeLearningRate?: number | 'keep' | 'restart';
  checkpointPath?: string;
  modelType?: 'from_scratch' | 'gpt2';
  gpt2ModelName: string;
  enableCheckpoints?: boolean;
  useLora?: boolean;
  loraRank: number;
  loraAlpha: number;
  loraDropout: number;
  json?: boolean;
}

const int = (name: string, text: string, env?: string, least = 1): Option =>
  flag(name, text, { parse: count(least), ...(env === undefined ? {} : { env }) });

const rate = (name: string, text: string, env?: string, most = Infinity): Option =>
  flag(name, text, { parse: number(0, most), ...(env === undefined ? {} : { env }) });

/** The flags of `torchbind train` by the heading they have in its help. */
export const trainFlagGroups: Record<string, Option[]> = {
  'Model and data': [
    flag('--model-name <name>', 'name of the model in the checkpoint directory; if it exists, training resumes'),
    flag(
      '--input-file <file>',
      "text file to train on (UTF-8; - reads stdin), or a directory with nanoGPT's train.bin and val.bin",
      { env: 'TRAINING_DATA_SOURCE' },
    ),
    flag('--tokenization <kind>', 'kind of tokenizer of a new model: gpt2 or char', {
      env: 'TOKENIZATION_METHOD',
      choices: ['gpt2', 'char', 'character', 'custom_bpe'],
    }),
    flag(
      '--tokenizer <path>',
      'file of the tokenizer of a new model: tokenizer.json, vocab.json with merges.txt, or meta.pkl',
    ),
    int('--custom-vocab-size <n>', 'number of tokens that the tokenizer must have', 'CUSTOM_VOCAB_SIZE').hideHelp(),
    flag('--init-from-model <name>', 'initialize a new model with the weights of this model'),
    device(),
  ],
  'Size of a new model': [
    int('--block-size <n>', 'context length in tokens (256)', 'BLOCK_SIZE'),
    int('--n-embd <n>', 'embedding width (384)', 'N_EMBD'),
    int('--n-head <n>', 'number of attention heads (6)', 'N_HEAD'),
    int('--n-layer <n>', 'number of blocks (6)', 'N_LAYER'),
    rate('--dropout <p>', 'dropout probability (0.2)', 'DROPOUT', 1),
    toggle('--bias', 'give the query, key and value projections biases (false)'),
  ],
  Training: [
    int('--max-iters <n>', 'total number of updates, including those made before (1000)', 'TRAINING_STEPS', 0),
    int('--batch-size <n>', 'windows per batch (32)', 'BATCH_SIZE'),
    int('--gradient-accumulation-steps <n>', 'batches per update (1)'),
    rate('--learning-rate <lr>', 'learning rate of AdamW (3e-4)', 'LEARNING_RATE'),
    flag('--schedule <name>', 'learning-rate schedule (constant)', { choices: ['constant', 'linear', 'cosine'] }),
    int('--warmup-iters <n>', 'number of warm-up updates, over which the learning rate rises (0)', undefined, 0),
    toggle('--use-lr-warmup', 'warm up over 2 % of the updates, but at least 50', 'USE_LR_WARMUP'),
    int('--lr-decay-iters <n>', 'number of updates after which the learning rate reaches --min-lr (--max-iters)'),
    rate('--min-lr <lr>', 'final learning rate of linear and cosine (0)'),
    rate(
      '--weight-decay <w>',
      'weight decay of matrices and embeddings, but not of biases and norms (0.01 for all parameters)',
    ),
    rate('--beta1 <b>', 'beta1 of AdamW (0.9)', undefined, 1),
    rate('--beta2 <b>', 'beta2 of AdamW (0.999)', undefined, 1),
    rate('--grad-clip <norm>', 'clip the norm of the gradients to this value'),
    flag('--precision <dtype>', 'dtype of the computation (float32)', { choices: ['float32', 'bfloat16', 'float16'] }),
    flag('--activation-checkpointing', 'recompute activations in the backward pass: less memory, more time'),
    flag('--chunked-loss', 'compute the loss in chunks: less memory with a large vocabulary, more time'),
    flag('--data-order <order>', 'windows at random positions, or each window once per epoch (random)', {
      choices: ['random', 'epochs'],
    }),
    int('--seed <n>', 'seed of weights, windows and dropout: the same seed trains the same model', undefined, 0),
    toggle('--test-mode', 'trial run of a small model: 20 updates, unless other flags say otherwise', 'TEST_MODE'),
  ],
  Evaluation: [
    int('--eval-interval <n>', 'updates between two evaluations; 0 turns evaluation off', 'EVAL_INTERVAL', 0).default(
      50,
    ),
    int('--eval-iters <n>', 'batches of each split in an evaluation', 'EVAL_ITERS').default(200),
    int('--patience <n>', 'stop after n evaluations in a row without a new lowest validation loss'),
  ],
  Checkpoints: [
    checkpointDirectory(),
    int('--checkpoint-interval <n>', 'updates between two checkpoints (--eval-interval)', 'CHECKPOINT_INTERVAL'),
    int('--keep <n>', 'number of newest checkpoints to keep (2)'),
    toggle('--metrics', "write metrics.jsonl, metrics.html and TensorBoard's event file (true)"),
    flag('--log-dir <dir>', 'directory of the metrics, with single-file checkpoints', { env: 'LOG_DIR' }),
  ],
  Resuming: [
    int('--resume-training-steps <n>', 'number of updates to add to those made before', 'RESUME_TRAINING_STEPS', 0),
    int('--resume-steps <n>', '', 'RESUME_STEPS', 0).hideHelp(),
    flag(
      '--resume-learning-rate <lr>',
      'keep, restart (the schedule starts again), or a number (--learning-rate, else keep)',
      {
        env: 'RESUME_LEARNING_RATE',
        parse: (text) => (text === 'keep' || text === 'restart' ? text : number(0)(text)),
      },
    ),
    allowMixed(),
  ],
  'Single-file checkpoints, instead of --model-name': [
    toggle(
      '--enable-checkpoints',
      'save files named checkpoint_{model}_{source}_step{N}_{time}.pt',
      'ENABLE_CHECKPOINTS',
    ),
    flag('--model-type <type>', 'train a new model, or GPT-2', {
      env: 'MODEL_TYPE',
      choices: ['from_scratch', 'gpt2'],
    }),
    flag('--gpt2-model-name <name>', 'directory of GPT-2, or its name in the Hugging Face cache', {
      env: 'GPT2_MODEL_NAME',
    }).default('gpt2'),
    flag('--checkpoint-path <file>', "file to resume from; '*' matches any text", { env: 'CHECKPOINT_PATH' }),
  ],
  LoRA: [
    toggle('--use-lora', 'train LoRA adapters', 'USE_LORA'),
    int('--lora-rank <r>', 'rank of the adapters', 'LORA_RANK').default(16),
    rate('--lora-alpha <a>', 'the output of the adapters is scaled by alpha / rank', 'LORA_ALPHA').default(32),
    rate('--lora-dropout <p>', 'dropout probability of the adapters', 'LORA_DROPOUT', 1).default(0.05),
  ],
  Output: [jsonFlag()],
};
