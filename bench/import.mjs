// What `import 'torchbind'` costs next to loading libtorch itself: fresh processes taking turns; medians of the time on the
// clock, and of the processor's, which other work on the machine moves less.
//
//   node bench/import.mjs [--rounds 9] [--limit 60]     exit status 1 where the import costs more than --limit ms
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '9' }, limit: { type: 'string' } },
});
const url = (file) => JSON.stringify(new URL(file, import.meta.url).href);
const path = (file) => JSON.stringify(fileURLToPath(new URL(file, import.meta.url)));

/** Programs that print the milliseconds that their last line takes. */
const programs = {
  'import (ES module)': `const [start, cpu] = [performance.now(), process.cpuUsage()]; await import(${url('../dist/index.mjs')}); console.log(JSON.stringify([performance.now() - start, Object.values(process.cpuUsage(cpu)).reduce((a, b) => a + b) / 1000]));`,
  'require (CommonJS)': `const { createRequire } = await import('node:module'); const load = createRequire(import.meta.url); const [start, cpu] = [performance.now(), process.cpuUsage()]; load(${path('../dist/index.js')}); console.log(JSON.stringify([performance.now() - start, Object.values(process.cpuUsage(cpu)).reduce((a, b) => a + b) / 1000]));`,
  libtorch: `const { createRequire } = await import('node:module'); const load = createRequire(import.meta.url); const { native } = load(${path('../dist/native/native.js')}); const [start, cpu] = [performance.now(), process.cpuUsage()]; native(); console.log(JSON.stringify([performance.now() - start, Object.values(process.cpuUsage(cpu)).reduce((a, b) => a + b) / 1000]));`,
};

function milliseconds(program) {
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];

const times = Object.fromEntries(Object.keys(programs).map((name) => [name, []]));
for (let round = 0; round < Number(values.rounds); round++) {
  for (const [name, program] of Object.entries(programs)) times[name].push(milliseconds(program));
}
for (const [name, all] of Object.entries(times)) {
  const [clock, processor] = [0, 1].map((i) => all.map((pair) => pair[i]));
  const figures = [median(clock), Math.min(...clock), median(processor), Math.min(...processor)].map((ms) =>
    ms.toFixed(1),
  );
  console.log(
    `${name.padEnd(20)} median ${figures[0]} ms, best ${figures[1]}; processor ${figures[2]} ms, best ${figures[3]}`,
  );
}
const cost = median(times['import (ES module)'].map(([clock]) => clock));
if (values.limit !== undefined && cost > Number(values.limit)) {
  console.error(`The import costs ${cost.toFixed(1)} ms, more than ${values.limit} ms.`);
  process.exitCode = 1;
}
