// Trains a model and serves it in the same process: requests are answered with the newest bundle.
//
//   node server.mjs [text.txt] [--root checkpoints] [--port 8000] [--save-every 50]
//
//   curl -N localhost:8000/v1/completions -H 'content-type: application/json' -d '{"prompt": "The", "max_tokens": 100, "stream": true}'
//   http://localhost:8000/ tries the model, http://localhost:8000/runs shows the curves
import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { CheckpointManager, createServer } from 'torchbind';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    root: { type: 'string', default: 'checkpoints' },
    port: { type: 'string', default: '8000' },
    'save-every': { type: 'string', default: '50' },
  },
});
const { root } = values;
const text = await readFile(positionals[0] ?? new URL('data/shrew.txt', import.meta.url), 'utf8');

// A new model, or the one that an earlier run has saved.
const manager = new CheckpointManager('shrew', { root });
const config = { blockSize: 64, nLayer: 2, nHead: 4, nEmbd: 64, dropout: 0 };
const { model, mode } = await manager.initializeForTraining({ config, tokenization: 'char', text });
if (mode === 'fresh') await manager.saveState({ model });

const server = await createServer(manager.checkpointDir, { root });
console.log(`serving on ${await server.listen({ port: Number(values.port) })}`);

// Ctrl-C saves and ends training; requests that have begun then end too.
await model.fit({
  text,
  maxSteps: 1e9,
  evalInterval: 100,
  evalSteps: 5,
  handleSignals: true,
  checkpointDir: manager.checkpointDir,
  saveEvery: Number(values['save-every']),
  onSave: () => server.reload(),
});
await server.close();
