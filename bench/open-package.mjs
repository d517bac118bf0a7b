// How long GPT.load takes for a release package of 1 GB, as a directory and as a zip: node bench/open-package.mjs [rounds]
//
// Packages of 254 M parameters in float32 are written to a temporary directory and opened alternately; medians of the rounds.
//   open         from the call to the model
//   processor    processor time of that, which other programs do not lengthen
//   first token  a forward pass of one token after that, which reads every weight from the file
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GPT, noGrad, tensor, tidy } from '../dist/index.mjs';

const rounds = Number(process.argv[2] ?? 9);
const config = {
  ...{ vocabSize: 50257, blockSize: 1024, nLayer: 16, nHead: 16, nEmbd: 1024 },
  ...{ dropout: 0, bias: false, tieWeights: true },
};
const directory = mkdtempSync(join(tmpdir(), 'torchbind-open-'));
const packages = ['directory', 'package.zip'].map((name) => join(directory, name));

function median(values) {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}

try {
  const model = new GPT(config);
  for (const target of packages) await model.export(target);
  model.dispose();
  const found = new Map(packages.map((target) => [target, { open: [], processor: [], token: [] }]));
  for (let round = -1; round < rounds; round++) {
    for (const target of packages) {
      const cpu = process.cpuUsage();
      const began = performance.now();
      const gpt = await GPT.load(target);
      const open = performance.now() - began;
      const { user, system } = process.cpuUsage(cpu);
      noGrad(() => tidy(() => gpt.forward(tensor([[1]], { dtype: 'int64' }))));
      const token = performance.now() - began - open;
      gpt.dispose();
      if (round < 0) continue; // loads the addon and compiles the code
      const times = found.get(target);
      times.open.push(open);
      times.processor.push((user + system) / 1000);
      times.token.push(token);
    }
  }
  for (const [target, { open, processor, token }] of found) {
    const { size } = statSync(target.endsWith('.zip') ? target : join(target, 'model.safetensors'));
    console.log(
      `${target.endsWith('.zip') ? 'zip' : 'directory'} of ${(size / 1e9).toFixed(2)} GB: open ${median(open).toFixed(0)} ms ` +
        `(processor ${median(processor).toFixed(0)} ms), first token ${median(token).toFixed(0)} ms`,
    );
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
