/** Release packages: what is in them, that they open here and in Python, and what is refused. */
import { createHash } from 'node:crypto';
import { cpSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { createGzip, gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  CharTokenizer,
  compare,
  dispose,
  type ExportOptions,
  type ExportResult,
  GPT,
  Gpt2Tokenizer,
  inspect,
  loadSafetensors,
  memory,
  noGrad,
  tensor,
  tidy,
} from '../../lib/index';
import { huggingFaceJson } from '../../lib/tokenizers';
import { pythonJson, pythonTimeout, repositoryRoot } from '../helpers/python';
import { sharedTemporaryDirectory } from '../helpers/tmp';

const root = sharedTemporaryDirectory();
const text = readFileSync(path.join(repositoryRoot, 'docs/training.md'), 'utf8')
  .replace(/[^\n -~]/g, '')
  .slice(0, 6000);
const held = text.slice(4000);
const tokenizer = CharTokenizer.fromText(text);
const config = {
  ...{ vocabSize: tokenizer.vocabSize, blockSize: 32, nLayer: 2, nHead: 2, nEmbd: 64, dropout: 0 },
  ...{ bias: true, tieWeights: true, lmHeadBias: false, activation: 'gelu' as const },
};
const at = (...names: string[]): string => path.join(root, ...names);
const greedy = { maxNewTokens: 12, temperature: 0 } as const;

let gpt: GPT;
let wanted: string;

beforeAll(async () => {
  gpt = new GPT(config, { tokenizer, layout: 'nanogpt' });
  await gpt.fit({
    text: text.slice(0, 4000),
    maxSteps: 20,
    batchSize: 8,
    evalInterval: 10,
    evalSteps: 1,
    checkpointDir: at('run'),
  });
  wanted = await gpt.generate('The ', greedy);
});

function sha256(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}

async function exported(name: string, options: ExportOptions = {}): Promise<ExportResult> {
  return gpt.export(at(name), { metrics: at('run'), ...options });
}

describe("torchbind's own form", () => {
  test.each([
    ['directory', {}],
    ['one.zip', {}],
    ['one.tar.gz', {}],
    ['pt', { weights: 'pt' }],
    ['pt.zip', { weights: 'pt' }],
  ] as const)('%s holds the model to the bit', async (name, options) => {
    const result = await exported(name, options);
    const back = await GPT.load(at(name));
    expect(await back.generate('The ', greedy)).toBe(wanted);
    expect(back.origin).toMatchObject({ path: at(name), form: 'release', layout: 'torchbind' });
    expect(back.step).toBe(20);
    expect(back.training).toBe(false);
    expect(result).toMatchObject({ dtype: 'float32', form: 'torchbind', perplexity: null });
    const report = await inspect(at(name), { verify: true });
    expect([report.integrity.manifest, report.problems, report.step]).toEqual(['match', [], 20]);
    expect(report.container.kind).toBe('release');
    back.dispose();
  });

  test('a checkpoint gives a package without what training needs, and sizes of both', async () => {
    const model = await GPT.load(at('run'), { optimizer: true });
    const result = await model.export(at('from-run'), { data: 'a | text\nof ours', license: 'mit', language: 'en' });
    expect(result.files.map(({ name }) => name)).toEqual([
      'README.md',
      'config.json',
      'curve.svg',
      'model.safetensors',
      'release.json',
      'tokenizer.json',
      'SHA256SUMS',
    ]);
    const sizes = readdirSync(at('run'), { withFileTypes: true }).filter((entry) => entry.isFile());
    expect(result.checkpointSize).toBe(sizes.reduce((sum, { name }) => sum + statSync(at('run', name)).size, 0));
    expect(result.size).toBeLessThan(result.checkpointSize! / 2);
    for (const { name, size, sha256: sum } of result.files)
      expect([statSync(at('from-run', name)).size, sha256(at('from-run', name))]).toEqual([size, sum]);
    const card = readFileSync(at('from-run', 'README.md'), 'utf8');
    expect(card).toMatch(/^---\nlicense: "mit"\nlanguage:\n- "en"\nlibrary_name: torchbind\n/);
    expect(card).toContain('| Data | a \\| text of ours |');
    expect(card).toContain('| Steps | 20 |');
    expect(card).toMatch(/\| Lowest validation loss \| \d\.\d+ at step \d+ \|/);
    const facts = JSON.parse(readFileSync(at('from-run', 'release.json'), 'utf8')) as Record<string, unknown>;
    const count = gpt.namedParameters().reduce((sum, [, { shape }]) => sum + shape.reduce((a, b) => a * b, 1), 0);
    expect(facts).toMatchObject({ step: 20, parameters: count, license: 'mit', training: { steps: 20 } });
    expect(facts.outputs).toEqual([
      { name: 'logits', dtype: 'float32', shape: ['batch', 'time', tokenizer.vocabSize] },
    ]);
    expect(readFileSync(at('from-run', 'curve.svg'), 'utf8')).toMatch(/^<svg .*<polyline /s);
    model.dispose();
  });

  test('the same model gives the same bytes in every container', async () => {
    for (const name of ['same.zip', 'same.tar.gz']) {
      await exported(name, { name: 'x', dtype: 'bfloat16' });
      const first = readFileSync(at(name));
      await exported(name, { name: 'x', dtype: 'bfloat16', overwrite: true });
      expect(readFileSync(at(name)).equals(first)).toBe(true);
    }
  });

  test('files of a zip are stored at multiples of 64 bytes', async () => {
    await exported('aligned.zip');
    const bytes = readFileSync(at('aligned.zip'));
    const weights = readFileSync(at('directory', 'model.safetensors'));
    expect(bytes.indexOf(weights) % 64).toBe(0);
    expect(bytes.indexOf(weights)).toBeGreaterThan(0);
  });

  test.each([
    ['int8', 8],
    ['int4', 4],
  ] as const)('%s holds what quantize makes, and says what it costs', async (dtype, bits) => {
    const { perplexity, size } = await exported(dtype, { dtype, heldText: held });
    const copy = await GPT.load(at('directory'));
    copy.quantize({ bits });
    const [own, expected] = [await loadSafetensors(at(dtype, 'model.safetensors')), copy.stateDict()];
    expect([...own.keys()].sort()).toEqual([...expected.keys()].sort());
    for (const [key, tensor] of own) expect([key, tensor.equal(expected.get(key)!)]).toEqual([key, true]);
    const back = await GPT.load(at(dtype));
    expect(back.quantization).toEqual({ bits, groupSize: bits === 8 ? null : 32 });
    expect(perplexity!.before).toBe(await gpt.perplexity(held));
    expect(perplexity!.after).toBe(await back.perplexity(held));
    expect(Math.abs(perplexity!.after / perplexity!.before - 1)).toBeLessThan(0.05);
    expect(size).toBeLessThan(statSync(at('directory', 'model.safetensors')).size / 2);
    expect(readFileSync(at(dtype, 'README.md'), 'utf8')).toContain('Perplexity of held text');
    // Once rounded, it is exported again as it is, and as nothing else.
    await back.export(at(`${dtype}-again.zip`), { dtype });
    const same = await compare(at(`${dtype}-again.zip`), at(dtype));
    expect([same.totals.equalTensors, same.onlyInA, same.onlyInB]).toEqual([own.size, [], []]);
    await expect(back.export(at('float'), { dtype: 'float32' })).rejects.toMatchObject({
      code: 'ERR_TORCHBIND_CONVERT',
    });
    for (const model of [back, copy]) model.dispose();
  });

  test('what is written is the state at the call', async () => {
    const model = await GPT.load(at('directory'));
    const writing = model.export(at('at-call'));
    noGrad(() => tidy(() => model.parameters().forEach((parameter) => parameter.zero_())));
    await writing;
    const [a, b] = [at('at-call', 'model.safetensors'), at('directory', 'model.safetensors')];
    expect(sha256(a)).toBe(sha256(b));
    model.dispose();
  });

  test('a package that was opened trains on, and its file stays as it is', async () => {
    const before = sha256(at('directory', 'model.safetensors'));
    const model = await GPT.load(at('directory'));
    await model.fit({ text, maxSteps: 2, batchSize: 2 });
    expect(sha256(at('directory', 'model.safetensors'))).toBe(before);
    await expect(model.save(at('directory'))).rejects.toThrow(/is a release package/);
    await model.save(at('bundle'));
    expect((await GPT.load(at('bundle'))).origin).toMatchObject({ form: 'bundle', layout: 'torchbind' });
    model.dispose();
  });
});

describe('what is there', () => {
  test('a package is replaced only on request, anything else never', async () => {
    await exported('there');
    await expect(exported('there')).rejects.toThrow(/overwrite: true/);
    await exported('there', { overwrite: true, dtype: 'float16' });
    writeFileSync(at('there', 'notes.txt'), 'mine');
    await expect(exported('there', { overwrite: true })).rejects.toThrow(/holds notes\.txt, which does not belong/);
    await expect(exported('run', { overwrite: true })).rejects.toMatchObject({ code: 'ERR_TORCHBIND_SAVE' });
    writeFileSync(at('file.zip'), 'mine');
    await expect(exported('file.zip', { overwrite: true })).rejects.toThrow(/another file/);
    expect(readFileSync(at('file.zip'), 'utf8')).toBe('mine');
  });

  test('an export that is abandoned leaves nothing', async () => {
    for (const name of ['gone', 'gone.zip', 'gone.tar.gz']) {
      const controller = new AbortController();
      const writing = exported(name, { signal: controller.signal, heldText: held });
      controller.abort(new Error('enough'));
      await expect(writing).rejects.toThrow('enough');
    }
    expect(readdirSync(root).filter((name) => name.includes('gone'))).toEqual([]);
  });

  test('damage is found by --verify, and files that were put there', async () => {
    cpSync(at('directory'), at('damaged'), { recursive: true });
    writeFileSync(at('damaged', 'README.md'), 'other');
    writeFileSync(at('damaged', 'more.bin'), 'x');
    const { integrity, problems } = await inspect(at('damaged'), { verify: true });
    expect(integrity.manifest).toBe('differs');
    expect(problems.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^README\.md is not the file that was exported/),
      'more.bin is not in SHA256SUMS',
    ]);
  });
});

describe('weights', () => {
  test('opening neither reads nor checks them: a package with a damaged weight opens, and --verify finds it', async () => {
    const weights = readFileSync(at('directory', 'model.safetensors'));
    for (const name of ['directory', 'one.zip']) {
      const target = at(`bit-${name}`);
      cpSync(at(name), target, { recursive: true });
      const file = name === 'directory' ? path.join(target, 'model.safetensors') : target;
      const bytes = readFileSync(file);
      const last = bytes.indexOf(weights) + weights.length - 1; // in the last weight, far from the header
      bytes[last] = bytes[last]! ^ 1;
      writeFileSync(file, bytes);
      (await GPT.load(target)).dispose();
      const found = await inspect(target, { verify: true }).then(
        ({ problems }) => problems.map(({ message }) => message).join(),
        (error: Error) => error.message, // a zip has checksums of its own
      );
      expect(found).toMatch(/model\.safetensors/);
    }
  });

  test('tied weights are mapped once, and what is computed with is what is in the file', async () => {
    const before = memory().numBytes;
    const model = await GPT.load(at('directory'));
    const size = statSync(at('directory', 'model.safetensors')).size;
    expect(memory().numBytes - before).toBeLessThanOrEqual(size);
    const file = await loadSafetensors(at('directory', 'model.safetensors'));
    for (const [name, parameter] of model.namedParameters())
      expect([name, parameter.equal(file.get(name)!)]).toEqual([name, true]);
    dispose([...file.values()]);
    model.dispose();
  });
});

describe('archives from strangers', () => {
  const tar = async (entries: Record<string, unknown>[]): Promise<Buffer> => {
    const stream = pack();
    for (const { content = '', ...header } of entries) stream.entry(header as { name: string }, content as string);
    stream.finalize();
    const pieces: Buffer[] = [];
    for await (const piece of Readable.from(stream).pipe(createGzip())) pieces.push(piece as Buffer);
    return Buffer.concat(pieces);
  };

  test.each([
    ['a path that leads up', [{ name: 'p/../../evil', content: 'x' }], /plain names/],
    ['an absolute path', [{ name: '/etc/evil', content: 'x' }], /plain names|one folder/],
    ['a hidden file', [{ name: 'p/.bashrc', content: 'x' }], /plain names/],
    ['a link', [{ name: 'p/model.safetensors', type: 'symlink', linkname: '/etc/passwd' }], /not a regular file/],
    ['two folders', [{ name: 'p/a' }, { name: 'q/b' }], /one folder/],
    ['nothing of ours', [{ name: 'p/a', content: 'x' }], /no release\.json/],
  ])('%s is refused', async (_, entries, message) => {
    writeFileSync(at('hostile.tar.gz'), await tar(entries));
    await expect(GPT.load(at('hostile.tar.gz'))).rejects.toThrow(message);
    await expect(GPT.load(at('hostile.tar.gz'))).rejects.toMatchObject({ code: /^ERR_TORCHBIND_CHECKPOINT/ });
  });

  test('a bomb is refused before it is written', async () => {
    const piece = gzipSync(Buffer.alloc(64 * 2 ** 20), { level: 9 });
    writeFileSync(at('bomb.tar.gz'), Buffer.concat([piece, piece]));
    await expect(GPT.load(at('bomb.tar.gz'))).rejects.toMatchObject({ code: 'ERR_TORCHBIND_CHECKPOINT_LIMIT' });
  });

  test('cut and damaged archives are errors', async () => {
    for (const name of ['one.zip', 'one.tar.gz']) {
      const bytes = readFileSync(at(name));
      for (const [kind, changed] of [
        ['cut', bytes.subarray(0, bytes.length / 2)],
        ['damaged', Buffer.concat([bytes.subarray(0, 400), Buffer.alloc(64), bytes.subarray(464)])],
      ] as const) {
        const file = at(`${kind}-${name}`);
        writeFileSync(file, changed);
        await expect(GPT.load(file), file).rejects.toMatchObject({ code: /^ERR_TORCHBIND/ });
      }
    }
  });
});

describe('Python', () => {
  interface Answers {
    hf: { tokens: number[]; text: string; logits: number[] };
    'hf-bin': Answers['hf'];
    'hf-half': Answers['hf'];
    gpt2: number[][];
    decoded: string[];
    chars: { ids: number[]; text: string };
    int8: Record<string, number[][]>;
    int4: Record<string, number[][]>;
  }
  const texts = ['The naïve dog\n\n  sat — 12345 times.', "I'll <|endoftext|> be", '日本語 🙂', 'x'.repeat(50)];
  const unicode = new CharTokenizer([...'aehnäé, ']);
  let python: Answers;

  beforeAll(async () => {
    await exported('hf', { form: 'huggingface' });
    await exported('hf-bin', { form: 'huggingface', weights: 'pt' });
    await exported('hf-half', { form: 'huggingface', dtype: 'bfloat16' });
    writeFileSync(at('gpt2.json'), JSON.stringify(await huggingFaceJson(new Gpt2Tokenizer())));
    writeFileSync(at('chars.json'), JSON.stringify(await huggingFaceJson(unicode)));
    for (const dtype of ['int8', 'int4'] as const)
      if (!readdirSync(root).includes(dtype)) await exported(dtype, { dtype });
    const args = [root, path.join(repositoryRoot, 'docs/export.md')];
    python = await pythonJson<Answers>(path.join(__dirname, 'export.py'), args, JSON.stringify(texts));
  }, pythonTimeout);

  test.each(['hf', 'hf-bin'] as const)('transformers generates the same tokens from %s', (name) => {
    expect(python[name].text).toBe(wanted);
    expect(python[name].tokens).toEqual([...tokenizer.encode(wanted)]);
  });

  test.each(['hf', 'hf-half'])('GPT.load opens %s, and gives the logits of transformers', async (name) => {
    const model = await GPT.load(at(name));
    const logits = tidy(() => {
      const ids = tokenizer.encode('The ');
      return model
        .forward(tensor([[...ids]]))
        .logits.select(1, -1)
        .tolist() as number[][];
    });
    // Sums of float32 in another order: 1e-5 of logits near 1.
    python[name as 'hf'].logits.forEach((value, i) => expect(logits[0]![i]).toBeCloseTo(value, 4));
    model.dispose();
  });

  test("GPT-2's vocabulary and characters keep their ids", () => {
    const gpt2 = new Gpt2Tokenizer();
    texts.forEach((text, i) => {
      if (!text.includes('endoftext')) expect(python.gpt2[i]).toEqual([...gpt2.encode(text)]);
    });
    expect(python.gpt2[1]).toContain(50256); // one token in Python, where it is text here
    expect(python.decoded).toEqual(texts);
    expect(python.chars).toEqual({ ids: [...unicode.encode('näh, né')], text: 'näh, né' });
  });

  test.each(['int8', 'int4'] as const)('the lines of the documentation open %s', (dtype) => {
    const state = gpt.stateDict();
    const source = new Map([
      ['blocks.0.attn.qkv', state.get('transformer.h.0.attn.c_attn.weight')!.tolist() as number[][]],
      ['lmHead', state.get('transformer.wte.weight')!.tolist() as number[][]],
    ]);
    for (const [layer, rows] of source) {
      const largest = Math.max(...rows.flat().map(Math.abs));
      rows.forEach((row, i) =>
        // Half a step of 1/127 or 1/15 of the range, and bfloat16's rounding of scale and zero point.
        row.forEach((value, j) =>
          expect(Math.abs(python[dtype][layer]![i]![j]! - value)).toBeLessThan(
            largest * (dtype === 'int8' ? 0.006 : 0.09),
          ),
        ),
      );
    }
  });

  test('integers and families that differ are refused by name', async () => {
    await expect(exported('no', { form: 'huggingface', dtype: 'int8' })).rejects.toThrow(/transformers does not read/);
    const other = new GPT({ vocabSize: 8, blockSize: 4, nLayer: 1, nHead: 1, nEmbd: 4, normType: 'rmsnorm' });
    await expect(other.export(at('no'), { form: 'huggingface' })).rejects.toMatchObject({
      code: 'ERR_TORCHBIND_CONVERT',
    });
    await expect(other.export(at('no'), { dtype: 'int4' })).rejects.toThrow(/groupSize 32 does not divide/);
    await expect(other.export(at('no'), { heldText: 'x' })).rejects.toMatchObject({
      code: 'ERR_TORCHBIND_NO_TOKENIZER',
    });
    await expect(other.export(at('no'), { licence: 'mit' } as object)).rejects.toThrow(/Did you mean 'license'/);
  });
});
