// Reads the container files of docs/deploy.md into steps. It knows the instructions that they use, and refuses others.
import { SetupError } from '../steps.mjs';

/** The stages of a file: `[{ base, name, steps: [{ instruction, words, text }] }]`. */
export function stagesOf(file) {
  const stages = [];
  for (const line of file.replaceAll('\\\n', ' ').split('\n')) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const [, instruction, text] = /^([A-Z]+)\s+(.*)$/.exec(line) ?? [];
    if (!KNOWN.has(instruction)) throw new SetupError(`expected one of ${[...KNOWN].join(', ')}, got: ${line}`);
    const words = text.trim().split(/\s+/);
    if (instruction === 'FROM') stages.push({ base: words[0], name: words[2], steps: [] });
    else stages.at(-1).steps.push({ instruction, words, text });
  }
  return stages;
}

const KNOWN = new Set(['FROM', 'WORKDIR', 'ENV', 'COPY', 'RUN', 'USER', 'EXPOSE', 'CMD']);

/** Variables of `ENV a=b c=d`. */
export function variablesOf(words) {
  return Object.fromEntries(words.map((word) => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)]));
}
