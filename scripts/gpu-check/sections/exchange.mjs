// Python resumes a bundle that was saved here, makes updates on its device and saves; this side continues from there.
import path from 'node:path';
import { atMost } from '../context.mjs';
import { smallGpt, trainingText } from '../models.mjs';

/** The same float32 loss by Python's unfused model and by this one. */
const ALLOWED = 1e-4;

export async function run(context, tb) {
  const { device } = context;
  const directory = path.join(context.directory, 'bundle');
  const model = smallGpt(tb, device);
  await model.fit({
    text: trainingText(),
    batchSize: 8,
    maxSteps: 10,
    evalInterval: 0,
    seed: 5,
    checkpointDir: directory,
  });
  const ids = tb.tensor([[...model.tokenizer.encode('the quick brown fox jumps')]]);
  const x = ids.narrow(1, 0, ids.size(1) - 1).to(device);
  const y = ids.narrow(1, 1, ids.size(1) - 1).to(device);
  let answer;
  await context.check('Python opens the bundle and computes the same loss', async () => {
    model.eval();
    const own = model.forward(x, y).loss.item();
    answer = await context.ask({
      ask: 'resume',
      device,
      directory,
      x: x.tolist(),
      y: y.tolist(),
      steps: 3,
      save: false,
    });
    return atMost(Math.abs(answer.losses[0] - own), ALLOWED);
  });
  await context.check('three updates of Python with its AdamW state have the losses of three here', async () => {
    const resumed = await tb.GPT.load(directory, { device });
    const manager = new tb.CheckpointManager('bundle', { root: context.directory });
    const { model: own, optimizer } = await manager.initializeForTraining({ device });
    resumed.dispose();
    own.eval(); // as Python's, without dropout
    const losses = [];
    for (let i = 0; i < 3; i++) {
      const { loss } = own.forward(x, y);
      losses.push(loss.item());
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
    }
    return atMost(Math.max(...losses.map((loss, i) => Math.abs(loss - answer.losses[i]))), ALLOWED);
  });
  await context.check('what Python saves after them opens here', async () => {
    await context.ask({ ask: 'resume', device, directory, x: x.tolist(), y: y.tolist(), steps: 3, save: true });
    const opened = await tb.GPT.load(directory, { device });
    opened.eval();
    return atMost(Math.abs(opened.forward(x, y).loss.item() - answer.after), ALLOWED);
  });
}
