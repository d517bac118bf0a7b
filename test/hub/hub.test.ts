/** The hub, with @huggingface/hub and Python's huggingface_hub against a server on this machine. */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { CharTokenizer, download, GPT, tensor, tidy } from '../../lib/index';
import { pythonJson, pythonTimeout } from '../helpers/python';
import { startProxy } from '../helpers/proxy';
import { sharedTemporaryDirectory } from '../helpers/tmp';
import { Hub, sha256 } from './server';

const root = sharedTemporaryDirectory();
const hub = new Hub();
const tokenizer = new CharTokenizer([...'abcdefgh']);
const config = {
  vocabSize: 8,
  blockSize: 8,
  nLayer: 1,
  nHead: 2,
  nEmbd: 128,
  dropout: 0,
  bias: true,
  tieWeights: true,
};
let gpt: GPT;
let cache: string;
let weights: Buffer;

function filesIn(directory: string): Record<string, Buffer> {
  return Object.fromEntries(readdirSync(directory).map((name) => [name, readFileSync(path.join(directory, name))]));
}

beforeAll(async () => {
  await hub.start();
  gpt = new GPT({ ...config, lmHeadBias: false, activation: 'gelu' }, { tokenizer, layout: 'nanogpt' });
  await gpt.export(path.join(root, 'package'), { form: 'huggingface' });
  const files = filesIn(path.join(root, 'package'));
  weights = files['model.safetensors']!;
  hub.add('owner/model', { ...files, 'pytorch_model.bin': Buffer.alloc(2000), 'flax_model.msgpack': 'x' });
  hub.add('owner/gated', files, { gated: true });
  hub.add('owner/empty', { 'README.md': 'nothing' });
});
afterAll(() => hub.stop());

let count = 0;
beforeEach(() => {
  cache = path.join(root, `cache-${count++}`);
  vi.stubEnv('HF_ENDPOINT', hub.endpoint);
  vi.stubEnv('HF_HUB_CACHE', cache);
  vi.stubEnv('HF_HOME', path.join(root, 'home'));
  for (const name of ['HF_TOKEN', 'HF_HUB_OFFLINE', 'HUGGING_FACE_HUB_TOKEN', 'HF_TOKEN_PATH']) vi.stubEnv(name, '');
  hub.log.length = 0;
  hub.elsewhere.length = 0;
  hub.faults.clear();
});
afterEach(() => vi.unstubAllEnvs());

function logitsOf(model: GPT): number[] {
  return tidy(
    () =>
      model
        .forward(tensor([[1, 2, 3]]))
        .logits.select(1, -1)
        .flatten()
        .tolist() as number[],
  );
}

const offline = 'HF_HUB_OFFLINE';
const failure = async (promise: Promise<unknown>): Promise<Error & { code: string }> =>
  promise.then(
    () => Promise.reject(new Error('it did not fail')),
    (error: Error & { code: string }) => error,
  );

test('GPT.load fetches what is needed, once, and opens it offline afterwards', async () => {
  const model = await GPT.load('hf:owner/model');
  expect(logitsOf(model)).toEqual(logitsOf(gpt.eval()));
  const repo = hub.repos.get('owner/model')!;
  const snapshot = path.join(cache, 'models--owner--model/snapshots', repo.commit);
  expect(readdirSync(snapshot).sort()).toEqual(
    [
      'SHA256SUMS',
      'config.json',
      'model.safetensors',
      'release.json',
      'tokenizer.json',
      'tokenizer_config.json',
    ].sort(),
  );
  expect(readlinkSync(path.join(snapshot, 'model.safetensors'))).toBe(`../../blobs/${sha256(weights)}`);
  expect(readFileSync(path.join(cache, 'models--owner--model/refs/main'), 'utf8')).toBe(repo.commit);
  expect(hub.log.join('\n')).not.toMatch(/bin|msgpack|README/);
  hub.log.length = 0;
  // A branch may have moved: it is asked for, and nothing is fetched.
  expect(await download('hf:owner/model')).toBe(snapshot);
  expect(hub.log.every((line) => line.includes('/api/models/'))).toBe(true);
  hub.log.length = 0;
  expect(await download(`hf:owner/model@${repo.commit}`)).toBe(snapshot);
  vi.stubEnv(offline, '1');
  expect(await download('hf:owner/model@main')).toBe(snapshot);
  expect(hub.log).toEqual([]);
  expect(await failure(download('hf:owner/other'))).toMatchObject({ code: 'ERR_TORCHBIND_HUB_OFFLINE' });
  model.dispose();
});

test('proxy variables are honoured', async () => {
  const { url, tunnels, stop } = await startProxy();
  onTestFinished(stop);
  for (const name of ['http_proxy', 'https_proxy', 'no_proxy', 'NO_PROXY', 'HTTPS_PROXY']) vi.stubEnv(name, undefined);
  vi.stubEnv('HTTP_PROXY', url);
  const directory = await download('hf:owner/model');
  expect(readFileSync(path.join(directory, 'model.safetensors')).equals(weights)).toBe(true);
  // The hub leads to another host for large files, which is asked through the proxy too.
  expect(new Set(tunnels).size).toBe(2);
  expect(tunnels).toContain(new URL(hub.endpoint).host);
});

test('without a connection the cache serves, with a warning', async () => {
  const snapshot = await download('hf:owner/model');
  vi.stubEnv('HF_ENDPOINT', 'http://127.0.0.1:9');
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
  expect(await download('hf:owner/model')).toBe(snapshot);
  expect(warned.mock.calls[0]![0]).toMatch(/cannot be reached.*cache serve/);
  warned.mockRestore();
  expect(await failure(download('hf:owner/gated'))).toMatchObject({ code: 'ERR_TORCHBIND_HUB' });
});

test("Python's client finds what was fetched here, and the reverse", { timeout: pythonTimeout }, async () => {
  const ours = await download('hf:owner/model');
  const theirs = path.join(root, 'theirs');
  const job = { endpoint: hub.endpoint, repo: 'owner/model', ours: cache, theirs };
  const python = await pythonJson<Record<string, string>>(path.join(__dirname, 'hub.py'), [], JSON.stringify(job));
  expect(python).toMatchObject({ ours, file: path.join(ours, 'model.safetensors'), again: ours });
  vi.stubEnv('HF_HUB_CACHE', theirs);
  vi.stubEnv(offline, 'true');
  expect(await download('hf:owner/model')).toBe(python.theirs);
  const model = await GPT.load('hf:owner/model');
  expect(logitsOf(model)).toEqual(logitsOf(gpt));
  model.dispose();
});

test('cuts are gone on with, and a busy server is asked again', async () => {
  hub.faults.set('model.safetensors', ['cut', 'busy', 'cut', 'cut']);
  let last = { bytes: 0, totalBytes: 0 };
  const snapshot = await download('hf:owner/model', { onProgress: (progress) => (last = progress) });
  expect(readFileSync(path.join(snapshot, 'model.safetensors')).equals(weights)).toBe(true);
  expect(last.bytes).toBe(last.totalBytes);
  expect(hub.log.filter((line) => /resolve.*safetensors bytes=\d+-/.test(line)).length).toBeGreaterThanOrEqual(2);
});

test('an abandoned download is gone on with by the next call', async () => {
  const controller = new AbortController();
  const onProgress = ({ bytes }: { bytes: number }): void => {
    if (bytes > weights.length / 8 + 20_000) controller.abort(new Error('enough'));
  };
  hub.faults.set('model.safetensors', ['cut', 'cut']);
  await expect(download('hf:owner/model', { onProgress, signal: controller.signal })).rejects.toThrow('enough');
  const part = path.join(cache, `models--owner--model/blobs/${sha256(weights)}.incomplete`);
  expect(existsSync(part)).toBe(true);
  hub.log.length = 0;
  hub.faults.set('model.safetensors', ['ignore-range']);
  const snapshot = await download('hf:owner/model');
  expect(hub.log.some((line) => /safetensors bytes=[1-9]/.test(line))).toBe(true);
  expect(readFileSync(path.join(snapshot, 'model.safetensors')).equals(weights)).toBe(true);
  expect(existsSync(part)).toBe(false);
});

test('wrong bytes never get into the cache', async () => {
  hub.faults.set('model.safetensors', ['wrong']);
  const error = await failure(download('hf:owner/model'));
  expect(error).toMatchObject({ code: 'ERR_TORCHBIND_HUB_DAMAGED' });
  expect(readdirSync(path.join(cache, 'models--owner--model/blobs'))).not.toContain(sha256(weights));
  // A part of other bytes is thrown away, and the file fetched whole.
  const part = path.join(cache, `models--owner--model/blobs/${sha256(weights)}.incomplete`);
  writeFileSync(part, Buffer.alloc(5000, 7));
  const snapshot = await download('hf:owner/model');
  expect(readFileSync(path.join(snapshot, 'model.safetensors')).equals(weights)).toBe(true);
  rmSync(realpathSync(path.join(snapshot, 'config.json')));
  await download('hf:owner/model');
  expect(existsSync(path.join(snapshot, 'config.json'))).toBe(true);
});

test('the token goes to the hub alone, from a variable or a file, and is never shown', async () => {
  const without = await failure(GPT.load('hf:owner/gated'));
  expect(without).toMatchObject({ code: 'ERR_TORCHBIND_HUB_ACCESS' });
  expect(without.message).toMatch(/gated.*set HF_TOKEN.*Accept its conditions/);
  vi.stubEnv('HF_TOKEN', 'hf_wrong_one');
  const wrong = await failure(download('hf:owner/gated'));
  expect(wrong.message).toMatch(/does not give access/);
  const private_ = await failure(download('hf:owner/missing'));
  for (const error of [without, wrong, private_]) {
    const all = `${error.message} ${error.stack} ${JSON.stringify(error)} ${String(error.cause)}`;
    expect(all).not.toMatch(/hf_wrong|secret|Bearer|s3cret/);
  }
  vi.stubEnv('HF_TOKEN', '');
  mkdirSync(path.join(root, 'home'), { recursive: true });
  writeFileSync(path.join(root, 'home/token'), `${hub.token}\n`);
  try {
    const model = await GPT.load('hf:owner/gated');
    expect(logitsOf(model)).toEqual(logitsOf(gpt));
    model.dispose();
  } finally {
    rmSync(path.join(root, 'home/token'));
  }
  expect(hub.log.some((line) => line.endsWith(' token'))).toBe(true);
  expect(hub.elsewhere.length).toBeGreaterThan(0);
  for (const headers of hub.elsewhere) expect(headers.authorization).toBeUndefined();
});

test('push makes the repository and uploads the package, which opens again', async () => {
  expect(await failure(gpt.push('hf:owner/pushed'))).toMatchObject({ code: 'ERR_TORCHBIND_HUB_ACCESS' });
  vi.stubEnv('HF_TOKEN', hub.token);
  const done = await gpt.push('hf:owner/pushed', { license: 'mit', message: 'First' });
  const repo = hub.repos.get('owner/pushed')!;
  expect(done).toEqual({ repo: 'owner/pushed', branch: 'main', commit: repo.commit });
  expect(repo.files.get('model.safetensors')!.equals(weights)).toBe(true);
  expect(repo.files.get('README.md')!.toString()).toContain('license: "mit"');
  for (const headers of hub.elsewhere) expect(headers.authorization).toBeUndefined();
  const model = await GPT.load('hf:owner/pushed');
  expect(logitsOf(model)).toEqual(logitsOf(gpt));
  model.dispose();
});

test.each([
  ['hf:', /expected a model on the hub/],
  ['hf:a/b/c', /expected a model on the hub/],
  ['hf:../x', /expected a model on the hub/],
  ['hf:owner/model@../../x', /expected a model on the hub/],
  ['hf:owner/model@none', /no revision 'none'/],
  ['hf:owner/empty', /no weights that torchbind reads.*README\.md/],
])('%s is refused', async (reference, message) => {
  expect((await failure(GPT.load(reference))).message).toMatch(message);
});
