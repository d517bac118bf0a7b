// One section in a process of its own. What it finds goes to the check as it is found, so that a crash loses nothing.
import { createRequire } from 'node:module';
import { inRoot } from '../steps.mjs';
import { Context } from './context.mjs';

process.once('message', async (task) => {
  const context = new Context(task, (row) => process.send({ row }));
  try {
    const { run } = await import(`./sections/${task.name}.mjs`);
    await run(context, createRequire(import.meta.url)(inRoot('dist/index.js')));
  } catch (error) {
    process.send({ row: { name: 'runs to its end', ok: false, note: error.stack } });
  }
  await context.close();
  process.send({ done: true }, () => process.disconnect());
});
