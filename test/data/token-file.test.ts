/** Files of token ids, as nanoGPT's: written here and in Python, read here and in Python. */
import { mkdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { prepareTokens, RandomWindows, TokenFile, TokenStream, writeTokens } from '../../lib/data';
import { GPT } from '../../lib/gpt/gpt';
import { Generator } from '../../lib/tensor/random';
import { dispose, memory, tidy } from '../../lib/tensor/scope';
import { CharTokenizer, Gpt2Tokenizer, loadTokenizer } from '../../lib/tokenizers';
import { pythonCode, pythonTimeout } from '../helpers/python';
import { sharedTemporaryDirectory, temporaryDirectory } from '../helpers/tmp';

const root = sharedTemporaryDirectory();
const python = path.join(root, 'python');
const own = path.join(root, 'own');
const text = 'the quick brown fox jumps over the lazy dog. été 🦊\n'.repeat(200);
const stories = ['One day.', '', 'Another day.'];
let answer: {
  batches: number[][][][];
  own: Record<string, number[]>;
  stoi: Record<string, number>;
};

/** prepare.py and get_batch of nanoGPT on the same text, and what Python reads of the files written here. */
const script = `
import json, os, pickle, sys
import numpy as np, torch
python, own, text = sys.argv[1:4]
os.makedirs(python)
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
n = len(text)
for name, part in (('train', text[:int(n * 0.9)]), ('val', text[int(n * 0.9):])):
    np.array([stoi[c] for c in part], dtype=np.uint16).tofile(f'{python}/{name}.bin')
pickle.dump({'vocab_size': len(chars), 'itos': dict(enumerate(chars)), 'stoi': stoi}, open(f'{python}/meta.pkl', 'wb'))

def get_batch(split, generator):
    data = np.memmap(f'{python}/{split}.bin', dtype=np.uint16, mode='r')
    ix = torch.randint(len(data) - 16, (5,), generator=generator)
    x = torch.stack([torch.from_numpy((data[i:i+16]).astype(np.int64)) for i in ix])
    y = torch.stack([torch.from_numpy((data[i+1:i+1+16]).astype(np.int64)) for i in ix])
    return [x.tolist(), y.tolist()]
generator = torch.Generator().manual_seed(1337)
batches = [get_batch(split, generator) for split in ('train', 'train', 'val', 'train')]
read = lambda name, dtype: np.fromfile(f'{own}/{name}', dtype=dtype).tolist()
meta = pickle.load(open(f'{own}/data/meta.pkl', 'rb'))
print(json.dumps({
    'batches': batches,
    'own': {'train': read('data/train.bin', np.uint16), 'val': read('data/val.bin', np.uint16),
            'stories': read('stories.bin', np.uint16), 'wide': read('wide.bin', np.uint32)},
    'stoi': meta['stoi']}))
`;

beforeAll(async () => {
  mkdirSync(own);
  await prepareTokens(path.join(own, 'data'), text, { tokenizer: CharTokenizer.fromText(text) });
  const tokenizer = new Gpt2Tokenizer();
  await writeTokens(path.join(own, 'stories.bin'), stories, { tokenizer, separator: '<|endoftext|>' });
  await writeTokens(path.join(own, 'wide.bin'), [1, 70000, 2 ** 32 - 1], { dtype: 'uint32' });
  answer = JSON.parse(await pythonCode(script, [python, own, text])) as typeof answer;
}, pythonTimeout);

function open(file: string, dtype?: 'uint16' | 'uint32'): TokenFile {
  const opened = TokenFile.open(file, { dtype });
  onTestFinished(() => opened.close());
  return opened;
}

describe('token files', () => {
  it('give the batches of nanoGPT from the same generator, bit for bit', () => {
    const { train, validation } = TokenStream.open(python);
    onTestFinished(() => [train, validation].forEach((file) => (file as TokenFile).close()));
    const generator = new Generator().manualSeed(1337);
    const windows = [train, validation].map((t) => new RandomWindows(t, { batchSize: 5, blockSize: 16, generator }));
    const batches = [0, 0, 1, 0].map((part) =>
      tidy(() => {
        const { x, y } = windows[part]!.next();
        return [x.tolist(), y.tolist()];
      }),
    );
    expect(batches).toEqual(answer.batches);
  });

  it('are written as nanoGPT prepares them: divided by characters, with meta.pkl', async () => {
    for (const [name, file] of [
      ['train', 'train.bin'],
      ['val', 'val.bin'],
    ] as const) {
      expect(readFileSync(path.join(own, 'data', file)).equals(readFileSync(path.join(python, file))), file).toBe(true);
      expect([...open(path.join(own, 'data', file))]).toEqual(answer.own[name]);
    }
    const tokenizer = (await loadTokenizer(path.join(own, 'data'))) as CharTokenizer;
    expect(answer.stoi).toEqual(Object.fromEntries(tokenizer.chars.map((c, i) => [c, i])));
    expect((await loadTokenizer(python))!.decode(open(path.join(python, 'train.bin')).subarray(0, 19))).toBe(
      'the quick brown fox',
    );
  });

  it('hold texts with what stands between them, and ids of 32 bits', () => {
    const tokenizer = new Gpt2Tokenizer();
    const ids = stories.flatMap((story) => [...tokenizer.encode(story), 50256]);
    expect(answer.own.stories).toEqual(ids);
    expect(answer.own.wide).toEqual([1, 70000, 2 ** 32 - 1]);
    expect([...open(path.join(own, 'wide.bin'), 'uint32')]).toEqual([1, 70000, 2 ** 32 - 1]);
  });

  it('are cut without a copy, and counted from the end as typed arrays are', async () => {
    const file = path.join(temporaryDirectory(), 'ten.bin');
    await writeTokens(
      file,
      Uint16Array.from({ length: 10 }, (_, i) => i),
    );
    const tokens = open(file);
    expect([...tokens.subarray(2, 4)]).toEqual([2, 3]);
    expect([...tokens.subarray(-2)]).toEqual([8, 9]);
    expect([...tokens.subarray(5, 3), ...tokens.subarray(20)]).toEqual([]);
    const part = tokens.slice(3, -2);
    expect([part.length, part.placeOf(1), [...part], [...part.slice(1, 2)]]).toEqual([5, 4, [3, 4, 5, 6, 7], [4]]);
    const { train, validation } = new TokenStream(tokens);
    expect([[...train], [...validation]]).toEqual([[0, 1, 2, 3, 4, 5, 6, 7, 8], [9]]);
  });

  it('take no memory for what is not used, however large they are', () => {
    const file = path.join(temporaryDirectory(), 'large.bin');
    writeFileSync(file, '');
    truncateSync(file, 2 ** 36); // 64 GiB, of which nothing is on the disk
    const before = [memory(), process.memoryUsage.rss()] as const;
    const tokens = TokenFile.open(file);
    expect(tokens.length).toBe(2 ** 35);
    const windows = new RandomWindows(tokens, {
      batchSize: 8,
      blockSize: 64,
      generator: new Generator().manualSeed(1),
    });
    for (let i = 0; i < 20; i++) dispose(windows.next());
    expect(process.memoryUsage.rss() - before[1]).toBeLessThan(64e6);
    tokens.close();
    expect(memory().numTensors).toBe(before[0].numTensors);
    expect(() => tokens.subarray(0, 1)).toThrow(/which was closed/);
  });

  it('train a model as the same ids in memory do, bit for bit', async () => {
    const run = async (data: TokenStream): Promise<number[]> => {
      const { vocabSize } = CharTokenizer.fromText(text);
      const model = new GPT({ vocabSize, blockSize: 8, nLayer: 1, nHead: 1, nEmbd: 8, dropout: 0.1 }, { init: false });
      for (const parameter of model.parameters()) tidy(() => parameter.detach().fill_(0.01));
      const { losses, optimizer, valLoss } = await model.fit({
        data,
        maxSteps: 4,
        batchSize: 2,
        seed: 1,
        evalSteps: 2,
      });
      dispose(optimizer.state);
      model.dispose();
      return [...losses, valLoss!];
    };
    const files = TokenStream.open(python);
    onTestFinished(() => [files.train, files.validation].forEach((file) => (file as TokenFile).close()));
    const inMemory = TokenStream.of(Uint16Array.from(files.train), Uint16Array.from(files.validation));
    expect(await run(files)).toEqual(await run(inMemory));
  });

  it('are refused where they are none, or not whole', () => {
    const directory = temporaryDirectory();
    const file = path.join(directory, 'train.bin');
    const refused = (message: RegExp, dtype?: 'uint32'): void => {
      expect(() => TokenFile.open(file, { dtype })).toThrow(message);
      expect(() => TokenFile.open(file, { dtype })).toThrow(expect.objectContaining({ code: 'ERR_TORCHBIND_DATA' }));
    };
    refused(/cannot open .*train\.bin/);
    writeFileSync(file, '');
    refused(/train\.bin is empty/);
    writeFileSync(file, 'abc');
    refused(/has 3 bytes, which is not a whole number of uint16 ids/);
    writeFileSync(file, 'abcdef');
    refused(/not a whole number of uint32 ids/, 'uint32');
    expect(() => TokenFile.open(directory)).toThrow(/is not a file/);
    expect(() => TokenStream.open(directory)).toThrow(/val\.bin/);
    expect(() => TokenFile.open(file, { dtype: 'int8' as never })).toThrow(/'uint16' or 'uint32'/);
    symlinkSync(file, path.join(directory, 'val.bin'));
    const { train, validation } = TokenStream.open(directory);
    onTestFinished(() => [train, validation].forEach((part) => (part as TokenFile).close()));
    expect(() => new RandomWindows(train, { batchSize: 1, blockSize: 4 })).toThrow(
      /need at least 5 tokens, but there are 3 in .*train\.bin/,
    );
  });

  it('name the file and the place of an id that the model has no row for', async () => {
    const directory = temporaryDirectory();
    const ids = new Uint16Array(100).fill(3);
    ids[77] = 9;
    await writeTokens(path.join(directory, 'train.bin'), ids);
    await writeTokens(path.join(directory, 'val.bin'), new Uint16Array(20));
    const model = new GPT({ vocabSize: 8, blockSize: 8, nLayer: 1, nHead: 1, nEmbd: 4 });
    const data = TokenStream.open(directory);
    onTestFinished(() => {
      [data.train, data.validation].forEach((part) => (part as TokenFile).close());
      model.dispose();
    });
    const options = { data, dataOrder: 'epochs', batchSize: 3, seed: 1, evalInterval: 0 } as const;
    await expect(model.fit({ ...options, maxSteps: 4 })).rejects.toThrow(
      /train\.bin: token 77 is 9, but the model's ids are 0 to 7/,
    );
    dispose(model.optimizer?.state);
  });

  it('are not written where an id does not fit, and the old file stays', async () => {
    const file = path.join(temporaryDirectory(), 'x.bin');
    await writeTokens(file, [1, 2, 3]);
    await expect(writeTokens(file, [1, 70000])).rejects.toThrow(/x\.bin: token 1 is 70000, which is not a uint16/);
    await expect(writeTokens(file, [1, -1], { dtype: 'uint32' })).rejects.toThrow(/token 1 is -1/);
    await expect(writeTokens(file, 'text')).rejects.toThrow(/pass the option 'tokenizer'/);
    await expect(writeTokens(file, '', { tokenizer: new CharTokenizer(['a']) })).rejects.toThrow(/no tokens to write/);
    expect([...readFileSync(file)]).toEqual([1, 0, 2, 0, 3, 0]);
  });
});
