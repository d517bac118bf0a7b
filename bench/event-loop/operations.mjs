// The operations of bench/event-loop.mjs: files and tokenising.
//
// `prepare({ directory, text })` makes what `run` gets, outside the measurement: an empty directory, and the path of a text.
// `run` is measured. A function that it gives is called after each round, outside the measurement.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import * as torch from '../../dist/index.mjs';

const { GPT, dispose } = torch;

/** 400 MB in 40 tensors. */
function largeTensors() {
  return new Map(Array.from({ length: 40 }, (_, i) => [`layer.${i}.weight`, torch.ones([2500, 1000]).mul(i)]));
}

/** A GPT of 50 million parameters, 201 MB, of a family that keeps q, k and v apart or of one that does not. */
function largeModel(layout = 'mypt') {
  return new GPT({ vocabSize: 16_000, blockSize: 256, nLayer: 12, nHead: 8, nEmbd: 512, dropout: 0 }, { layout });
}

/** A byte-level tokenizer.json of 128,000 entries, as Llama 3's: each token is a pair of two earlier ones. */
function writeTokenizer(directory) {
  const printable = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let other = 256;
  const tokens = Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : other++));
  const seen = new Set(tokens);
  const merges = [];
  for (let i = 0; tokens.length < 128_000; i++) {
    const pair = [tokens[(i * 7) % Math.min(tokens.length, 4000)], tokens[(i * 131) % tokens.length]];
    if (seen.has(pair.join(''))) continue;
    seen.add(pair.join(''));
    tokens.push(pair.join(''));
    merges.push(pair);
  }
  const json = {
    version: '1.0',
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges },
  };
  const file = path.join(directory, 'tokenizer.json');
  writeFileSync(file, JSON.stringify(json));
  return file;
}

const at = (directory, name) => path.join(directory, name);

/** A load of 400 MB from `file`, which `save` writes. */
function loading(file, save, load) {
  return {
    async prepare({ directory }) {
      const tensors = largeTensors();
      await save(tensors, at(directory, file), { durable: false });
      dispose(tensors);
      return at(directory, file);
    },
    async run(target) {
      const loaded = await load(target);
      return () => dispose(loaded);
    },
  };
}

function saving(file, save) {
  return {
    prepare: ({ directory }) => ({ tensors: largeTensors(), target: at(directory, file) }),
    run: async ({ tensors, target }) => void (await save(tensors, target, { durable: false })),
  };
}

function loadingModel(layout) {
  return {
    async prepare({ directory }) {
      const model = largeModel(layout);
      await model.save(at(directory, 'model'));
      model.dispose();
      return at(directory, 'model');
    },
    async run(target) {
      const model = await GPT.load(target);
      return () => model.dispose();
    },
  };
}

function savingModel(layout, save) {
  return {
    prepare: ({ directory }) => ({ model: largeModel(layout), target: at(directory, 'model') }),
    run: async ({ model, target }) => void (await save(model, target)),
  };
}

async function twoModels({ directory }) {
  const targets = ['a', 'b'].map((name) => at(directory, name));
  for (const target of targets) {
    const model = largeModel();
    await model.save(target);
    model.dispose();
  }
  return targets;
}

/** Many small tensors, as an optimizer's state with all that is around them. */
function manyTensors() {
  return new Map(Array.from({ length: 60_000 }, (_, i) => [`state.${i}.exp_avg`, torch.ones([4])]));
}

const { load, save, loadSafetensors, saveSafetensors } = torch;

/** A character model, as it is trained and generated from. */
function characterModel(text, sizes) {
  const tokenizer = torch.CharTokenizer.fromText(text);
  return new GPT({ vocabSize: tokenizer.vocabSize, dropout: 0, ...sizes }, { tokenizer });
}

const SMALL = { nLayer: 4, nEmbd: 128, nHead: 4, blockSize: 64 };
const MIDDLE = { nLayer: 6, nEmbd: 384, nHead: 6, blockSize: 256 };

function training(sizes, options) {
  return {
    prepare({ text }) {
      const content = readFileSync(text, 'utf8');
      return { model: characterModel(content, sizes), content: content.slice(0, 200_000) };
    },
    run: async ({ model, content }) => void (await model.fit({ text: content, evalSteps: 2, ...options })),
  };
}

function streaming(sizes, prompt, maxNewTokens, streams = 1) {
  return {
    prepare: ({ text }) => characterModel(readFileSync(text, 'utf8'), sizes),
    async run(model) {
      const read = async () => {
        for await (const piece of model.stream(prompt, { maxNewTokens })) if (piece === '') break;
      };
      await Promise.all(Array.from({ length: streams }, read));
    },
  };
}

export const operations = [
  { name: 'fit-example', ...training(SMALL, { batchSize: 12, maxSteps: 40, evalInterval: 20 }) },
  { name: 'fit-384', ...training(MIDDLE, { batchSize: 4, maxSteps: 6, evalInterval: 3 }) },
  { name: 'stream', ...streaming(MIDDLE, 'The', 150) },
  { name: 'stream-beyond', ...streaming(MIDDLE, 'The '.repeat(64), 20) },
  { name: 'stream-8', ...streaming(MIDDLE, 'The', 60, 8) },

  { name: 'load-pt', ...loading('values.pt', save, load) },
  { name: 'save-pt', ...saving('values.pt', save) },
  { name: 'load-safetensors', ...loading('values.safetensors', saveSafetensors, loadSafetensors) },
  { name: 'save-safetensors', ...saving('values.safetensors', saveSafetensors) },
  {
    name: 'load-many',
    async prepare({ directory }) {
      await save(manyTensors(), at(directory, 'many.pt'), { durable: false });
      return at(directory, 'many.pt');
    },
    async run(file) {
      const loaded = await load(file);
      return () => dispose(loaded);
    },
  },
  {
    name: 'save-many',
    prepare: ({ directory }) => ({ tensors: manyTensors(), file: at(directory, 'many.pt') }),
    run: async ({ tensors, file }) => void (await save(tensors, file, { durable: false })),
  },
  { name: 'gpt-load', ...loadingModel('mypt') },
  { name: 'gpt-load-fused', ...loadingModel('hf-gpt2') },
  { name: 'gpt-save', ...savingModel('mypt', (model, target) => model.save(target)) },
  { name: 'gpt-save-fused', ...savingModel('hf-gpt2', (model, target) => model.save(target)) },
  { name: 'gpt-bundle', ...savingModel('mypt', (model, target) => model.saveCheckpointBundle(target, { step: 1 })) },
  {
    name: 'gpt-convert',
    ...savingModel('mypt', (model, target) => model.save(target, { layout: 'nanogpt', force: true })),
  },
  { name: 'compare', prepare: twoModels, run: async ([a, b]) => void (await torch.compare(a, b)) },
  { name: 'inspect', prepare: twoModels, run: async ([a]) => void (await torch.inspect(a)) },
  {
    name: 'tokenizer-json',
    prepare: ({ directory }) => writeTokenizer(directory),
    run: async (file) => void (await torch.loadTokenizer(file)),
  },
  {
    name: 'fit-text',
    prepare: ({ text }) => ({
      text: readFileSync(text, 'utf8'),
      model: new GPT(
        { vocabSize: 50_304, blockSize: 8, nLayer: 1, nHead: 1, nEmbd: 8, dropout: 0 },
        { tokenizer: new torch.Gpt2Tokenizer() },
      ),
    }),
    run: async ({ text, model }) => void (await model.fit({ text, maxSteps: 1, batchSize: 1, evalInterval: 0 })),
  },
];
