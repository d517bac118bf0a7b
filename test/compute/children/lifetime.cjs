// How long a process with a compute thread lives, and what happens where there can be none. The case is the argument.
const { Worker } = require('node:worker_threads');
const { CharTokenizer, GPT, manualSeed, setNumThreads } = require('../../../dist');

const text = 'the quick brown fox jumps over the lazy dog.\n'.repeat(30);
const options = { text, batchSize: 4, maxSteps: 3, evalInterval: 0, seed: 1 };

function make() {
  setNumThreads(1);
  manualSeed(1);
  const tokenizer = CharTokenizer.fromText(text);
  return new GPT({ vocabSize: tokenizer.vocabSize, blockSize: 16, nLayer: 2, nHead: 2, nEmbd: 16 }, { tokenizer });
}

const print = (value) => console.log(JSON.stringify(value));

const cases = {
  // Nothing else keeps the process alive until it is through, and nothing afterwards.
  async through() {
    const gpt = make();
    const { losses } = await gpt.fit(options);
    print([losses, await gpt.generate('the', { maxNewTokens: 5, seed: 1 })]);
  },
  // A stream that nobody reads does not.
  async paused() {
    const gpt = make();
    const stream = gpt.stream('the', { seed: 1 });
    await stream.next();
    print('read');
  },
  async exit() {
    const gpt = make();
    void gpt.fit({ ...options, maxSteps: 1e6, onStep: () => process.exit(7) });
  },
  async inWorker() {
    const worker = new Worker(__filename, { argv: ['through'] });
    await new Promise((resolve) => worker.once('exit', resolve));
  },
  // Terminated in the middle, again and again.
  async terminated() {
    for (let i = 0; i < 3; i++) {
      const worker = new Worker(__filename, { argv: ['forever'] });
      await new Promise((resolve) => worker.once('message', resolve));
      await worker.terminate();
    }
    await cases.through();
  },
  async forever() {
    const { parentPort } = require('node:worker_threads');
    await make().fit({ ...options, maxSteps: 1e6, onStep: ({ step }) => step === 3 && parentPort.postMessage('on') });
  },
};

cases[process.argv[2]]();
