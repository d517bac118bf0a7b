// Carries out the steps of each container file of docs/deploy.md in a chroot, and uses the service that comes out as its users do.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { createReadStream } from 'node:fs';
import { createHash } from 'node:crypto';
import path from 'node:path';
import { say, SetupError } from '../steps.mjs';
import { baseSystem, runIn, startIn } from './chroot.mjs';
import { stagesOf, variablesOf } from './container-file.mjs';
import { libtorchHere, makeProject, run } from './shell.mjs';
import { containerRecipes } from './recipes.mjs';

const SERVICE = `import { accessSync, constants } from 'node:fs';
import { createServer } from 'torchbind';
const canWrite = ['/', '/app', process.env.XDG_CACHE_HOME].filter((directory) => {
  try { accessSync(directory, constants.W_OK); return true; } catch { return false; }
});
const server = await createServer('model');
console.log(JSON.stringify({ user: process.getuid(), canWrite, address: await server.listen({ port: 0 }) }));
process.once('SIGTERM', () => server.close().then(() => console.log('closed')));`;

/** One check for each file. */
export function containerChecks() {
  return containerRecipes().map((text, index) => ({
    what: `container file ${index + 1}, its steps in a chroot`,
    check: (packages, directory) => checkRecipe(text, packages, path.join(directory, `container-${index}`)),
  }));
}

async function checkRecipe(text, { tarball }, directory) {
  const base = await baseSystem();
  mkdirSync(directory, { recursive: true });
  const files = { '/torchbind.tgz': tarball, '/libtorch.zip': await libtorchZip(directory) };
  const server = await serveFiles(files);
  try {
    const context = await buildContext(path.join(directory, 'context'), server.address, files['/libtorch.zip']);
    const image = await build(stagesOf(text), { base, context, directory, address: server.address });
    return await useService(image);
  } finally {
    server.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** What \`docker build\` would be given: a project with its lock file, the service, a model, and libtorch. */
async function buildContext(directory, address, libtorch) {
  const dependencies = { torchbind: `${address}/torchbind.tgz`, fastify: '5.12.8', 'prom-client': '15.1.3' };
  makeProject(directory, {
    'package.json': { name: 'service', private: true, version: '1.0.0', dependencies },
    'server.mjs': SERVICE,
    'model.mjs': `import { CharTokenizer, GPT } from 'torchbind';
const tokenizer = new CharTokenizer([...'abcdefgh ']);
const config = { vocabSize: tokenizer.vocabSize, blockSize: 16, nLayer: 1, nHead: 1, nEmbd: 16, dropout: 0 };
await new GPT(config, { tokenizer }).export('model');`,
  });
  const env = { TORCHBIND_LIBTORCH: await libtorchHere() };
  await run(['npm', 'install', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: directory });
  await run([process.execPath, 'model.mjs'], { cwd: directory, env });
  cpSync(libtorch, path.join(directory, 'libtorch.zip'));
  return directory;
}

/** The libraries that the CPU needs, of the libtorch of this machine, as a zip that somebody keeps. */
async function libtorchZip(directory) {
  const root = await libtorchHere();
  const entry = path.dirname(root);
  const inLib = readdirSync(path.join(root, 'lib')).filter(
    (name) => /\.so(\.|$)/.test(name) && !/cuda|nvrtc|nvshmem|python/.test(name),
  );
  const cuda = path.join(entry, 'nvidia/cu13/lib');
  const names = [
    'torch/version.py',
    ...inLib.map((name) => `torch/lib/${name}`),
    ...(existsSync(cuda) ? readdirSync(cuda) : [])
      .filter((name) => /^lib(cudart|cupti)\.so/.test(name))
      .map((name) => `nvidia/cu13/lib/${name}`),
  ];
  const zip = path.join(directory, 'libtorch.zip');
  const code =
    'import sys, zipfile\nwith zipfile.ZipFile(sys.argv[1], "w") as zip:\n for name in sys.argv[2:]: zip.write(name)';
  await run(['python3', '-c', code, zip, ...names], { cwd: entry });
  return zip;
}

/** Serves the package and a wheel index, in the place of the registry and of PyTorch's index. */
async function serveFiles(files) {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(files['/libtorch.zip'])) hash.update(piece);
  const sum = hash.digest('hex');
  const wheel = '/cpu/torch/torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl';
  const served = { ...files, [wheel]: files['/libtorch.zip'] };
  const server = createServer((request, response) => {
    const name = decodeURIComponent(request.url);
    if (name === '/cpu/torch/') return response.end(`<a href="${encodeURI(wheel)}#sha256=${sum}">torch</a>`);
    if (served[name] === undefined) return response.writeHead(404).end();
    response.setHeader('content-length', statSync(served[name]).size);
    createReadStream(served[name]).pipe(response);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { address: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

/** The last stage: its directory, and what it runs. */
async function build(stages, { base, context, directory, address }) {
  const built = new Map();
  let image;
  for (const [index, { name, steps }] of stages.entries()) {
    const root = path.join(directory, `stage-${index}`);
    await run(['cp', '-a', base, root]);
    image = { root, env: {}, directory: '/', user: 0, command: undefined };
    for (const { instruction, words, text } of steps) {
      say(`  ${instruction} ${text}`);
      if (instruction === 'WORKDIR') {
        image.directory = words[0];
        mkdirSync(path.join(root, words[0]), { recursive: true });
      } else if (instruction === 'ENV') Object.assign(image.env, variablesOf(words));
      else if (instruction === 'USER') image.user = Number(words[0]);
      else if (instruction === 'CMD') image.command = JSON.parse(text);
      else if (instruction === 'COPY') copy(words, image, context, built);
      else if (instruction === 'RUN') {
        const env = { ...image.env, TORCHBIND_MIRROR: address };
        await runIn(root, text, { env, directory: image.directory });
      }
    }
    built.set(name, root);
  }
  return image;
}

function copy(words, { root, directory }, context, built) {
  const from = words[0].startsWith('--from=') ? built.get(words.shift().slice('--from='.length)) : context;
  const target = words.pop();
  const into = path.join(root, path.resolve(directory, target));
  for (const source of words) {
    const isInto = target.endsWith('/');
    const to = isInto ? path.join(into, path.basename(source)) : into;
    cpSync(path.join(from, source), to, { recursive: true, verbatimSymlinks: true });
  }
}

/** Starts the service as the image says, asks it for text, and stops it. */
async function useService(image) {
  const python = ['usr/bin', 'usr/local/bin'].flatMap((name) =>
    readdirSync(path.join(image.root, name)).filter((file) => file.startsWith('python')),
  );
  if (python.length > 0) throw new SetupError(`expected an image without Python, got ${python.join(', ')}`);
  const child = startIn(image.root, image.command, { ...image, env: { NODE_ENV: 'production', ...image.env } });
  let printed = '';
  const ended = new Promise((resolve) => child.once('close', resolve));
  try {
    const ready = await new Promise((resolve, reject) => {
      const fail = () => reject(new SetupError(`the service did not start: ${printed.trim().slice(-2000)}`));
      const late = setTimeout(fail, 60_000);
      child.once('close', fail).once('error', reject);
      const take = (text) => {
        printed += text;
        const line = /^\{.*\}$/m.exec(printed)?.[0];
        if (line !== undefined) {
          clearTimeout(late);
          resolve(JSON.parse(line));
        }
      };
      child.stdout.setEncoding('utf8').on('data', take);
      child.stderr.setEncoding('utf8').on('data', take);
    });
    if (ready.user !== image.user || ready.user === 0) throw new SetupError(`it runs as user ${ready.user}`);
    if (ready.canWrite.length > 0) throw new SetupError(`it can write to ${ready.canWrite.join(', ')}`);
    const response = await fetch(`${ready.address}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'model', prompt: 'abc', max_tokens: 5 }),
    });
    const answer = await response.text();
    if (response.status !== 200) throw new SetupError(`it answered ${response.status}: ${answer}`);
    child.kill('SIGTERM');
    const status = await ended;
    if (status !== 0 || !printed.includes('closed'))
      throw new SetupError(`SIGTERM ended it with ${status}: ${printed}`);
    const { usage } = JSON.parse(answer);
    return `user ${ready.user}, root read-only, ${usage.completion_tokens} tokens, ${sizeOfImage(image)}`;
  } finally {
    child.kill('SIGKILL');
  }
}

function sizeOfImage({ root, env }) {
  const libtorch = readdirSync(path.join(root, env.XDG_CACHE_HOME, 'torchbind/libtorch'));
  if (
    libtorch.includes('downloads') &&
    readdirSync(path.join(root, env.XDG_CACHE_HOME, 'torchbind/libtorch/downloads')).length > 0
  )
    throw new SetupError('the image keeps downloads in the cache');
  const node = readFileSync(path.join(root, 'app/node_modules/torchbind/package.json'), 'utf8');
  return `torchbind ${JSON.parse(node).version}`;
}
