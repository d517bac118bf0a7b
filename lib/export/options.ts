import { checkArgument, checkFlags, checkOptions, checkWatchers, TorchBindError } from '../errors';
import type { Quantization } from '../nn/quantized-linear';
import type { DType } from '../tensor/dtype';

/** Dtypes of the weights in a release package. */
export type ReleaseDType = 'float32' | 'bfloat16' | 'float16' | 'int8' | 'int4';

/** Options of `gpt.export`. */
export interface ExportOptions {
  /**
   * `torchbind` (default): weights under the names that the parameters have here. `huggingface`: a directory that Python's transformers
   * opens, of the family `hf-gpt2`, or of the one that the model came from.
   */
  form?: 'torchbind' | 'huggingface';
  /**
   * Of the weights. Default: the dtype that they came in, else float32. `int8` and `int4` round the weights of the Linears to integers
   * (see `gpt.quantize`) and keep the rest in bfloat16; only torchbind's own form holds them.
   */
  dtype?: ReleaseDType;
  /** With `int4`: columns of a row that share a scale, 32 (default), 64, 128 or 256. */
  groupSize?: number;
  /** The file of the weights: `safetensors` (default), or `pt`, as `torch.save` writes it. */
  weights?: 'safetensors' | 'pt';
  /** The model's name, for its card. Default: that of the package's file or directory. */
  name?: string;
  /** A few words on the model, for its card. */
  description?: string;
  /** Identifier of the licence, such as `mit` or `apache-2.0`. Default: none is stated. */
  license?: string;
  /** Codes of the languages, such as `en`. */
  language?: string | readonly string[];
  /** The name of the data that the model was trained with. */
  data?: string;
  /** The directory with the run's `metrics.jsonl`. Default: the bundle that the model was opened from. */
  metrics?: string;
  /** Text that the model was not trained with: its perplexity is measured before and after, for the result and the card. */
  heldText?: string;
  /** Of `huggingface`: write the model although the family cannot hold all of it, and results differ. Default false. */
  force?: boolean;
  /** Replace a release package that is there. Anything else is never replaced. Default false. */
  overwrite?: boolean;
  /** Abandons the export; what was there stays as it was. */
  signal?: AbortSignal;
}

/** What `gpt.export` wrote. */
export interface ExportResult {
  path: string;
  form: 'torchbind' | 'huggingface';
  dtype: ReleaseDType;
  /** Of the package, in bytes. */
  size: number;
  /** Size in bytes of the files that the model was opened from; null for a model without files. */
  checkpointSize: number | null;
  /** The files of the package, by name. */
  files: readonly { name: string; size: number; sha256: string }[];
  /** Of `heldText`, before and after; null without one. */
  perplexity: { before: number; after: number } | null;
}

/** The options, with their defaults. */
export interface Wanted extends Omit<ExportOptions, 'groupSize' | 'language' | 'dtype'> {
  form: 'torchbind' | 'huggingface';
  weights: 'safetensors' | 'pt';
  dtype: ReleaseDType | undefined;
  quantization: Quantization | null;
  language: readonly string[];
}

const names = [
  'form',
  'dtype',
  'groupSize',
  'weights',
  'name',
  'description',
  'license',
  'language',
  'data',
  'metrics',
  'heldText',
  'force',
  'overwrite',
  'signal',
];

const dtypes: readonly string[] = ['float32', 'bfloat16', 'float16', 'int8', 'int4'];
const synonyms = { licence: 'license', text: 'heldText', quantize: 'dtype' };

/** @throws ERR_TORCHBIND_INVALID_ARGUMENT, ERR_TORCHBIND_UNKNOWN_OPTION */
export function checkExportOptions(options: ExportOptions): Wanted {
  checkOptions(options, names, 'export', synonyms);
  checkWatchers(options, 'export');
  const { form = 'torchbind', dtype, weights = 'safetensors', language = [] } = options;
  checkFlags({ force: options.force, overwrite: options.overwrite }, 'export');
  checkArgument(
    form === 'torchbind' || form === 'huggingface',
    "'torchbind' or 'huggingface' for 'form'",
    form,
    'export',
  );
  checkArgument(
    weights === 'safetensors' || weights === 'pt',
    "'safetensors' or 'pt' for 'weights'",
    weights,
    'export',
  );
  checkArgument(
    dtype === undefined || dtypes.includes(dtype),
    `one of ${dtypes.join(', ')} for 'dtype'`,
    dtype,
    'export',
  );
  for (const name of ['name', 'description', 'license', 'data', 'metrics', 'heldText'] as const) {
    const value = options[name];
    checkArgument(value === undefined || typeof value === 'string', `a string for '${name}'`, value, 'export');
  }
  const languages = typeof language === 'string' ? [language] : language;
  const areTexts = Array.isArray(languages) && languages.every((code) => typeof code === 'string');
  checkArgument(areTexts, "the code of a language or several for 'language'", language, 'export');
  const quantization = quantizationOf(options);
  if (quantization !== null && form === 'huggingface') {
    throw new TorchBindError(
      `export: a package for Hugging Face holds float32, bfloat16 or float16, and not ${dtype!}: transformers does not read these ` +
        "integers. Use the form 'torchbind', or another dtype.",
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  const { groupSize: _, ...others } = options;
  return { ...others, form, weights, dtype, quantization, language: languages };
}

function quantizationOf({ dtype, groupSize }: ExportOptions): Quantization | null {
  if (dtype === 'int4') {
    const size = groupSize ?? 32;
    checkArgument([32, 64, 128, 256].includes(size), "32, 64, 128 or 256 for 'groupSize'", size, 'export');
    return { bits: 4, groupSize: size };
  }
  checkArgument(groupSize === undefined, "'groupSize' only with the dtype 'int4'", groupSize, 'export');
  return dtype === 'int8' ? { bits: 8, groupSize: null } : null;
}

/** The dtype of floating-point weights: what is asked for, else what they came in. */
export function floatDType(asked: ReleaseDType | undefined, came: DType | null): 'float32' | 'bfloat16' | 'float16' {
  const dtype = asked ?? came ?? 'float32';
  return dtype === 'bfloat16' || dtype === 'float16' ? dtype : 'float32';
}
