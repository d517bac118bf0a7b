// How long a save stops training: node bench/save-stall.mjs [rounds]
//
// Measured alternately in one run, medians of the rounds:
//   pause       from the end of an update to the beginning of the next one, with a save between them
//   no save     the same pause where nothing is saved
//   longer      how much longer an update takes while the save is written behind it
//   memory copy `clone()` of the model's parameters and the optimizer's moments, as they lie
//   in front    the pause with { saveInBackground: false }
//   Python      torch.save of model.state_dict() and optimizer.state_dict() between two updates, which syncs nothing
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GPT, TokenStream, dispose, getNumThreads, manualSeed, optim } from '../dist/index.mjs';
import { Partner } from './partner.mjs';

const rounds = Number(process.argv[2] ?? 7);
const config = { vocabSize: 8192, blockSize: 64, nLayer: 8, nHead: 8, nEmbd: 512, dropout: 0, device: 'cpu' };
const directory = mkdtempSync(join(tmpdir(), 'torchbind-stall-'));

manualSeed(1);
const data = new TokenStream(Int32Array.from({ length: 20_000 }, (_, i) => (i * 7919) % 8192));

function median(values) {
  return [...values].sort((a, b) => a - b)[values.length >> 1];
}

function copyTime(model, optimizer) {
  const state = [...optimizer.state.values()].flatMap((values) => [...values.values()]);
  const began = performance.now();
  const copies = [...model.parameters(), ...model.buffers(), ...state].map((tensor) => tensor.detach().clone());
  const time = performance.now() - began;
  const bytes = copies.reduce((sum, tensor) => sum + tensor.nbytes, 0);
  dispose(copies);
  return { time, bytes };
}

/** The pause after update 3, where a save is due or not, and the time of the updates around it. */
async function pauses(model, optimizer, saves) {
  const found = { pause: 0, before: [], during: [], saved: 0 };
  let last = 0;
  let isSaved = false;
  const events = model.fitEvents({
    data, optimizer, batchSize: 1, maxSteps: 5, startStep: 0, seed: 1, evalInterval: 0, metrics: false,
    ...(saves === 'none'
      ? {}
      : { checkpointDir: join(directory, 'run'), saveEvery: 3, keep: { last: 1 }, saveInBackground: saves !== 'front' }),
  }); // prettier-ignore
  for await (const event of events) {
    if (event.type === 'save') isSaved = true;
    if (event.type !== 'step') continue;
    const now = performance.now();
    const update = 64_000 / event.tokensPerSecond;
    if (event.step === 4) found.pause = now - last - update;
    if (event.step === 2 || event.step === 3) found.before.push(update);
    if (event.step > 3 && event.step < 6 && !isSaved) found.during.push(update);
    last = now;
  }
  return found;
}

const times = { pause: [], noSave: [], front: [], copy: [], longer: [], python: [] };
const ratios = [];
const python = await Partner.start('save_stall.py');
const model = new GPT(config, { layout: process.env.TORCHBIND_STALL_LAYOUT ?? 'mypt' });
const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-4 });
let bytes = 0;
await pauses(model, optimizer, 'none');
for (let round = 0; round < rounds; round++) {
  times.noSave.push((await pauses(model, optimizer, 'none')).pause);
  const before = copyTime(model, optimizer);
  const background = await pauses(model, optimizer, 'background');
  const after = copyTime(model, optimizer);
  bytes = before.bytes;
  const copied = (before.time + after.time) / 2;
  times.copy.push(copied);
  times.pause.push(background.pause);
  ratios.push(background.pause / copied);
  if (background.during.length > 0) times.longer.push(median(background.during) - median(background.before));
  times.front.push((await pauses(model, optimizer, 'front')).pause);
  times.python.push(1000 * (await python.ask({ ...config, directory, threads: getNumThreads() })).seconds);
}
await python.stop();
rmSync(directory, { recursive: true, force: true });
const parameters = model.parameters().reduce((sum, parameter) => sum + parameter.numel(), 0);
const rows = {
  'save in the background: pause between updates': times.pause,
  'the same pause without a save': times.noSave,
  'copy of weights and optimizer state in memory': times.copy,
  'each update longer while the save is written': times.longer,
  'save in front ({ saveInBackground: false })': times.front,
  'Python: torch.save in the loop': times.python,
};
console.log(`${(parameters / 1e6).toFixed(1)} M parameters, ${(bytes / 1e6).toFixed(0)} MB, ${rounds} rounds`);
console.log(`pause / copy: ${ratios.map((ratio) => ratio.toFixed(2)).join(' ')}, median ${median(ratios).toFixed(2)}`);
for (const [name, values] of Object.entries(rows))
  console.log(`${name.padEnd(48)} ${median(values)?.toFixed(1).padStart(9)} ms`);
