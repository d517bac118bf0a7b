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
    flag('--model-name <name>', 'name of the model in the checkpoint directory; an existing model resumes'),
    flag(
      '--input-file <file>',
      "text to train on (UTF-8; - is stdin), or a directory with nanoGPT's train.bin and val.bin",
      { env: 'TRAINING_DATA_SOURCE' },
    ),
    flag('--tokenization <kind>', 'of a new model: gpt2 or char', {
      env: 'TOKENIZATION_METHOD',
      choices: ['gpt2', 'char', 'character', 'custom_bpe'],
    }),
    flag('--tokenizer <path>', 'of a new model: a tokenizer.json, vocab.json with merges.txt, or meta.pkl'),
    int('--custom-vocab-size <n>', 'tokens that the tokenizer must have', 'CUSTOM_VOCAB_SIZE').hideHelp(),
    flag('--init-from-model <name>', 'start a new model from the weights of this one'),
    device(),
  ],
  'Size of a new model': [
    int('--block-size <n>', 'context, in tokens (256)', 'BLOCK_SIZE'),
    int('--n-embd <n>', 'width (384)', 'N_EMBD'),
    int('--n-head <n>', 'heads of attention (6)', 'N_HEAD'),
    int('--n-layer <n>', 'blocks (6)', 'N_LAYER'),
    rate('--dropout <p>', 'probability of dropout (0.2)', 'DROPOUT', 1),
    toggle('--bias', 'biases of query, key and value (false)'),
  ],
  Training: [
    int('--max-iters <n>', 'updates in all, those made before included (1000)', 'TRAINING_STEPS', 0),
    int('--batch-size <n>', 'windows a batch (32)', 'BATCH_SIZE'),
    int('--gradient-accumulation-steps <n>', 'batches an update (1)'),
    rate('--learning-rate <lr>', 'of AdamW (3e-4)', 'LEARNING_RATE'),
    flag('--schedule <name>', 'how the rate changes (constant)', { choices: ['constant', 'linear', 'cosine'] }),
    int('--warmup-iters <n>', 'updates over which the rate rises (0)', undefined, 0),
    toggle('--use-lr-warmup', 'the same over 2 % of the updates, and at least 50', 'USE_LR_WARMUP'),
    int('--lr-decay-iters <n>', 'updates after which the rate has fallen to --min-lr (--max-iters)'),
    rate('--min-lr <lr>', 'rate that linear and cosine fall to (0)'),
    rate('--weight-decay <w>', 'of matrices and embeddings; biases and norms then have none (0.01 for all)'),
    rate('--beta1 <b>', 'of AdamW (0.9)', undefined, 1),
    rate('--beta2 <b>', 'of AdamW (0.999)', undefined, 1),
    rate('--grad-clip <norm>', 'scale gradients to this norm at most'),
    flag('--precision <dtype>', 'what is computed in (float32)', { choices: ['float32', 'bfloat16', 'float16'] }),
    flag('--activation-checkpointing', 'less memory for more computation'),
    flag('--chunked-loss', 'less memory with a large vocabulary, for more time'),
    flag('--data-order <order>', 'windows at random, or each once an epoch (random)', {
      choices: ['random', 'epochs'],
    }),
    int('--seed <n>', 'the same seed trains the same model', undefined, 0),
    toggle('--test-mode', 'a trial: few updates of small batches', 'TEST_MODE'),
  ],
  Evaluation: [
    int('--eval-interval <n>', 'updates from one to the next; 0 for none', 'EVAL_INTERVAL', 0).default(50),
    int('--eval-iters <n>', 'batches that one takes of each part', 'EVAL_ITERS').default(200),
    int('--patience <n>', 'stop after n evaluations without a lower validation loss'),
  ],
  Checkpoints: [
    checkpointDirectory(),
    int('--checkpoint-interval <n>', 'updates from one to the next (--eval-interval)', 'CHECKPOINT_INTERVAL'),
    int('--keep <n>', 'how many of the newest to keep (2)'),
    toggle('--metrics', 'write metrics.jsonl, metrics.html and events for TensorBoard (true)'),
    flag('--log-dir <dir>', 'where those go for single-file checkpoints', { env: 'LOG_DIR' }),
  ],
  'Going on': [
    int('--resume-training-steps <n>', 'updates to make beyond those made before', 'RESUME_TRAINING_STEPS', 0),
    int('--resume-steps <n>', '', 'RESUME_STEPS', 0).hideHelp(),
    flag(
      '--resume-learning-rate <lr>',
      'keep, restart (the schedule starts over), or a rate (--learning-rate, else keep)',
      {
        env: 'RESUME_LEARNING_RATE',
        parse: (text) => (text === 'keep' || text === 'restart' ? text : number(0)(text)),
      },
    ),
    allowMixed(),
  ],
  'Single-file checkpoints, in place of a named model': [
    toggle('--enable-checkpoints', 'save checkpoint_{model}_{source}_step{N}_{time}.pt', 'ENABLE_CHECKPOINTS'),
    flag('--model-type <type>', 'a new model, or GPT-2', { env: 'MODEL_TYPE', choices: ['from_scratch', 'gpt2'] }),
    flag('--gpt2-model-name <name>', 'its directory, or its name in the cache of Hugging Face', {
      env: 'GPT2_MODEL_NAME',
    }).default('gpt2'),
    flag('--checkpoint-path <file>', "resume this checkpoint; '*' matches any text", { env: 'CHECKPOINT_PATH' }),
  ],
  LoRA: [
    toggle('--use-lora', 'train adapters of low rank', 'USE_LORA'),
    int('--lora-rank <r>', '', 'LORA_RANK').default(16),
    rate('--lora-alpha <a>', 'what they add is scaled by alpha / rank', 'LORA_ALPHA').default(32),
    rate('--lora-dropout <p>', '', 'LORA_DROPOUT', 1).default(0.05),
  ],
  Output: [jsonFlag()],
};
