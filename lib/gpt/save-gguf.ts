import { configTypeOf, decoderConfigJson, decoderLayouts } from '../checkpoint/decoder-configs';
import type { JsonObject } from '../checkpoint/files';
import { type GgufModel, ggufModel, ggufName } from '../checkpoint/gguf/families';
import { ggufTokenizer } from '../checkpoint/gguf/tokenizer';
import type { Origin } from '../checkpoint/saved-model';
import { takeSnapshot } from '../checkpoint/snapshot';
import type { StorageCopies } from '../compute';
import { describe, TorchBindError } from '../errors';
import { type MetadataValue, text, u32, type WrittenType } from '../formats/gguf/format';
import { fitsQ8, type GgufTensor, writeGguf } from '../formats/gguf/write';
import { convertModel } from '../models/convert';
import type { GPTModel } from '../models/gpt-model';
import { plainLayout } from '../models/layouts/plain';
import { scaledFrequencies } from '../models/rope-frequencies';
import { noGrad } from '../tensor/autograd';
import { tensor } from '../tensor/from-data';
import { tidy } from '../tensor/scope';
import type { Tensor } from '../tensor/tensor';

const types: Readonly<Record<string, { type: WrittenType; fileType: number }>> = {
  float32: { type: 'F32', fileType: 0 },
  float16: { type: 'F16', fileType: 1 },
  q8_0: { type: 'Q8_0', fileType: 7 },
  bfloat16: { type: 'BF16', fileType: 32 },
};

/** Whether a path is that of a GGUF file. */
export function isGgufPath(path: string): boolean {
  return path.endsWith('.gguf');
}

/**
 * Writes a model as a GGUF file, for llama.cpp.
 *
 * @throws ERR_TORCHBIND_CONVERT naming what llama.cpp does not compute or has no tokenizer for
 */
export async function saveGguf(
  model: GPTModel,
  origin: Origin | undefined,
  path: string,
  { dtype = origin?.dtype ?? 'float32', force = false }: { dtype?: string; force?: boolean },
  copies: StorageCopies,
): Promise<void> {
  const form = Object.hasOwn(types, dtype) ? types[dtype]! : undefined;
  if (form === undefined) {
    const expected = Object.keys(types).join(', ');
    throw new TorchBindError(
      `save: expected the dtype of a GGUF file to be one of ${expected}, got ${describe(dtype)}.`,
      'ERR_TORCHBIND_INVALID_ARGUMENT',
    );
  }
  if (model.lora !== null || model.quantization !== null) {
    throw new TorchBindError(
      'save: a GGUF file holds one set of plain weights. foldLora(model) puts adapters into them; of a quantized model, save the ' +
        'model that it was made from.',
      'ERR_TORCHBIND_CONVERT',
    );
  }
  const isKnown = model.layout.name === 'hf-gpt2' || decoderLayouts.includes(model.layout.name);
  const own = isKnown ? model : convertModel(model, 'hf-gpt2', { force });
  try {
    await write(own, origin, path, { ...form, force }, copies);
  } finally {
    if (own !== model) own.dispose();
  }
}

async function write(
  model: GPTModel,
  origin: Origin | undefined,
  path: string,
  { type, fileType, force }: { type: WrittenType; fileType: number; force: boolean },
  copies: StorageCopies,
): Promise<void> {
  const { config, layout, tokenizer } = model;
  const came = origin?.kept.get('config') as JsonObject | undefined;
  const modelType = layout.name === 'hf-gpt2' ? 'gpt2' : typeOf(model, came);
  const gguf = ggufModel(modelType, config, force);
  const snapshot = snapshotOf(model, copies);
  try {
    await snapshot.pack();
    const weights = snapshot.weights as Map<string, Tensor>;
    const tensors = [...weights].flatMap(([name, weight]) => tensorOf(name, weight, type, model, gguf));
    if (!weights.has('lmHead.weight') && gguf.family.head === 'always')
      tensors.push(...tensorOf('lmHead.weight', weights.get('tokenEmbedding.weight')!, type, model, gguf));
    tensors.push(...ropeFactors(model));
    const vocabulary = await ggufTokenizer(tokenizer, config.vocabSize, came ?? {});
    const metadata = new Map<string, MetadataValue>([
      ...gguf.metadata,
      ['general.name', text(nameOf(modelType, came, vocabulary))],
      ['general.file_type', u32(fileType)],
      ['general.quantization_version', u32(2)],
      ...vocabulary,
    ]);
    await writeGguf(path, metadata, tensors);
  } finally {
    snapshot.release();
  }
}

/** llama.cpp looks for tokens of Phi-3 where the name is Phi-3's, and does not load a file without them. */
function nameOf(
  modelType: string,
  came: JsonObject | undefined,
  vocabulary: ReadonlyMap<string, MetadataValue>,
): string {
  const name = typeof came?._name_or_path === 'string' ? came._name_or_path : modelType;
  const tokens = vocabulary.get('tokenizer.ggml.tokens')?.value as readonly string[] | undefined;
  const isSafe = !/phi-?3/i.test(name) || ['<unk>', '<s>', '<|endoftext|>'].every((token) => tokens?.includes(token));
  return isSafe ? name : 'model';
}

/** The type that config.json would name. */
function typeOf({ config, layout }: GPTModel, came: JsonObject | undefined): string {
  const known = came !== undefined && configTypeOf(came) !== undefined ? came : undefined;
  return decoderConfigJson(config, layout.name, known, 'float32').model_type as string;
}

/** The weights under torchbind's own names, which are the same for all families. */
function snapshotOf(model: GPTModel, copies: StorageCopies): ReturnType<typeof takeSnapshot> {
  const { layout } = model;
  try {
    model.setLayout(plainLayout);
    return takeSnapshot(model, undefined, copies);
  } finally {
    model.setLayout(layout);
  }
}

function tensorOf(
  name: string,
  weight: Tensor,
  wanted: WrittenType,
  { config }: GPTModel,
  { family }: GgufModel,
): GgufTensor[] {
  if (name.startsWith('lmHead') && config.tieWeights && family.head !== 'always') return [];
  const { shape } = weight;
  // Vectors and the table of positions stay exact, as llama.cpp has them.
  const isExact = shape.length < 2 || name.startsWith('positionEmbedding');
  const type = isExact ? 'F32' : wanted === 'Q8_0' && !fitsQ8(shape) ? 'F16' : wanted;
  const isNorm = /(^|\.)(ln|qNorm|kNorm)[^.]*\.weight$/.test(name);
  const heads =
    family.permutes === true
      ? { q: config.nHead, k: config.nKvHead }[/attn\.([qk])\./.exec(name)?.[1] ?? '']
      : undefined;
  const make = (): Tensor =>
    noGrad(() =>
      tidy(() => {
        if (isNorm && config.normPlusOne) return weight.to('float32').add(1);
        if (config.qkvByHead && /attn\.qkv\./.test(name)) return byPart(weight, config.nHead);
        return heads === undefined ? weight.alias() : paired(weight, heads);
      }),
    );
  return [{ name: ggufName(name, config), shape, type, make }];
}

/** Rows of each head, in which channel i and its partner i + half follow one another. */
function paired(weight: Tensor, heads: number): Tensor {
  const [rows, ...columns] = weight.shape as [number, ...number[]];
  const halves = weight.reshape([heads, 2, rows / heads / 2, ...columns]); // (heads, 2, half, columns)
  return halves.transpose(1, 2).reshape([rows, ...columns]);
}

/** Rows of all queries, then of all keys and all values, of a matrix that has the three of each head together. */
function byPart(weight: Tensor, heads: number): Tensor {
  const [rows, ...columns] = weight.shape as [number, ...number[]];
  const parts = weight.reshape([heads, 3, rows / heads / 3, ...columns]); // (heads, 3, head size, columns)
  return parts.transpose(0, 1).reshape([rows, ...columns]);
}

/** By what RoPE's frequencies are divided, as Llama 3.1 has it. */
function ropeFactors({ config }: GPTModel): GgufTensor[] {
  const { ropeScaling, ropeSize, ropeTheta, blockSize } = config;
  if (ropeScaling?.type !== 'llama3') return [];
  const factors = scaledFrequencies(ropeSize, ropeTheta, ropeScaling, blockSize).map(
    (frequency, i) => ropeTheta ** ((-2 * i) / ropeSize) / frequency,
  );
  return [{ name: 'rope_freqs.weight', shape: [factors.length], type: 'F32', make: () => tensor(factors) }];
}
