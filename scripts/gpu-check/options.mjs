// The command line of npm run gpu-check, here and on the machine that the archive was brought to.
import { parseArgs } from 'node:util';
import { SetupError } from '../steps.mjs';
import { sections } from './sections.mjs';

const HELP = `Usage: npm run gpu-check -- [options]        in a clone
       ./run [options]                       where the archive was unpacked

Checks torchbind on a GPU against the CPU, and times it next to Python. Each section runs in a process of its own, with a
time of its own. The table comes last; all figures are in the JSON file next to it.

  --pack            make one archive that needs no network and no Node: build/gpu-check/torchbind-gpu-check.tar
  --device NAME     cuda (default), cuda:1, ...; cpu rehearses every line of the check without a GPU
  --python COMMAND  the Python whose PyTorch is used (default: python3 on PATH)
  --only NAMES      comma-separated sections: ${sections.map(({ name }) => name).join(', ')}
  --budget SECONDS  time for all of it (default 470)
  --patience N      give each section N times its time, for a slow machine (default 1)
  --json FILE       where the figures go (default: gpu-check.json in the current directory)
  --list            print the sections and stop
  --help            this text
`;

/** @throws SetupError for what cannot be meant */
export function parseOptions(args) {
  const { values } = read(args);
  const chosen = values.only?.split(',') ?? sections.map(({ name }) => name);
  const unknown = chosen.find((name) => !sections.some((section) => section.name === name));
  if (unknown !== undefined) throw new SetupError(`unknown section '${unknown}'.\n\n${HELP}`);
  const budget = Number(values.budget);
  if (!(budget > 0)) throw new SetupError(`--budget takes a number of seconds, got '${values.budget}'`);
  const patience = Number(values.patience);
  if (!(patience > 0)) throw new SetupError(`--patience takes a number above 0, got '${values.patience}'`);
  const list = sections.map(
    ({ name, seconds, title }) => `${name.padEnd(12)} ${String(seconds).padStart(4)} s  ${title}\n`,
  );
  const help = values.help ? HELP : values.list ? list.join('') : undefined;
  return { ...values, help, budget, patience, sections: sections.filter(({ name }) => chosen.includes(name)) };
}

function read(args) {
  try {
    return parseArgs({
      args,
      options: {
        pack: { type: 'boolean', default: false },
        device: { type: 'string', default: 'cuda' },
        python: { type: 'string' },
        only: { type: 'string' },
        budget: { type: 'string', default: '470' },
        patience: { type: 'string', default: '1' },
        json: { type: 'string', default: 'gpu-check.json' },
        list: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
  } catch (error) {
    throw new SetupError(`${error.message}\n\n${HELP}`);
  }
}
