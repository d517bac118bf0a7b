import type { GPTConfig } from '../models/config';
import type { TrainingFacts } from './facts';
import type { Wanted } from './options';

/** A model card: README.md with facts of the model and of its training, and YAML in front, as Hugging Face's hub reads it. */

export interface CardFacts {
  name: string;
  config: GPTConfig;
  parameters: number;
  dtype: string;
  training: TrainingFacts;
  perplexity: { before: number; after: number } | null;
  hasCurve: boolean;
  hasTokenizer: boolean;
  weightsFile: string;
  versions: { torchbind: string; libtorch: string };
}

export const curveFile = 'curve.svg';

export function modelCard(facts: CardFacts, wanted: Wanted): string {
  const { name, training, perplexity, hasCurve } = facts;
  const sections = [
    frontMatter(wanted),
    `# ${inline(name)}`,
    wanted.description === undefined ? '' : wanted.description.trim(),
    section('Model', table(modelRows(facts, wanted))),
    section('Input and output', inputText(facts)),
    section('Training', table(trainingRows(training))),
    hasCurve ? `![Loss over training steps](${curveFile})` : '',
    perplexity === null ? '' : section('Evaluation', table(evaluationRows(perplexity))),
    section('Use', wanted.form === 'huggingface' ? pythonUse(facts) : nodeUse(facts)),
    section('Files', 'SHA256SUMS has the checksums of all files: `sha256sum -c SHA256SUMS`.'),
  ];
  return `${sections.filter((text) => text !== '').join('\n\n')}\n`;
}

function frontMatter({ license, language, form }: Wanted): string {
  // JSON's strings are strings of YAML too, whatever they hold.
  const lines = [
    ...(license === undefined ? [] : [`license: ${JSON.stringify(license)}`]),
    ...(language.length === 0 ? [] : ['language:', ...language.map((code) => `- ${JSON.stringify(code)}`)]),
    `library_name: ${form === 'huggingface' ? 'transformers' : 'torchbind'}`,
    'pipeline_tag: text-generation',
    'tags:',
    '- gpt',
    '- torchbind',
  ];
  return `---\n${lines.join('\n')}\n---`;
}

type Row = readonly [name: string, value: string | number | null];

function modelRows({ config, parameters, dtype, weightsFile, versions }: CardFacts, { license }: Wanted): Row[] {
  return [
    ['Parameters', parameters.toLocaleString('en-US')],
    ['Layers', config.nLayer],
    ['Attention heads', config.nHead],
    ['Channels', config.nEmbd],
    ['Context length', config.blockSize],
    ['Vocabulary', config.vocabSize],
    ['Activation', config.activation],
    ['Weights', `${weightsFile}, ${dtype}`],
    ['License', license ?? 'not stated'],
    ['Written by', `torchbind ${versions.torchbind}, libtorch ${versions.libtorch}`],
  ];
}

function inputText({ config: { blockSize, vocabSize }, hasTokenizer }: CardFacts): string {
  const tokens = hasTokenizer ? ', made by the tokenizer in this package' : '; this package has no tokenizer';
  return (
    `Input: token ids, int64, shape (batch, time), time at most ${blockSize}${tokens}.\n\n` +
    `Output: logits of the next token at each position, shape (batch, time, ${vocabSize}).`
  );
}

function trainingRows({ data, steps, tokensSeen, loss, trainLoss, valLoss, bestValLoss }: TrainingFacts): Row[] {
  const best = bestValLoss === null ? null : `${number(bestValLoss.loss)} at step ${bestValLoss.step}`;
  return [
    ['Data', data ?? 'not stated'],
    ['Steps', steps ?? 'not known'],
    ['Tokens seen', tokensSeen === null ? null : tokensSeen.toLocaleString('en-US')],
    ['Loss of the last batch', number(loss)],
    ['Training loss', number(trainLoss)],
    ['Validation loss', number(valLoss)],
    ['Lowest validation loss', best],
  ];
}

function evaluationRows({ before, after }: { before: number; after: number }): Row[] {
  return [
    ['Perplexity of held text, before the export', number(before)],
    ['Perplexity of held text, of this package', number(after)],
  ];
}

function number(value: number | null): string | null {
  return value === null ? null : String(Number(value.toPrecision(5)));
}

function nodeUse({ hasTokenizer }: CardFacts): string {
  const last = hasTokenizer
    ? "console.log(await gpt.generate('Once'));"
    : 'for await (const id of gpt.generateTokens([0])) console.log(id);';
  return code('js', ["import { GPT } from 'torchbind';", '', "const gpt = await GPT.load('.');", last]);
}

function pythonUse({ hasTokenizer }: CardFacts): string {
  const lines = [
    'from transformers import AutoModelForCausalLM, AutoTokenizer',
    '',
    "model = AutoModelForCausalLM.from_pretrained('.')",
  ];
  const use = [
    "tokenizer = AutoTokenizer.from_pretrained('.')",
    "inputs = tokenizer('Once', return_tensors='pt')",
    'print(tokenizer.decode(model.generate(**inputs, max_new_tokens=40)[0]))',
  ];
  return code(
    'python',
    hasTokenizer ? [...lines, ...use] : [lines[0]!.replace(', AutoTokenizer', ''), ...lines.slice(1)],
  );
}

function section(title: string, body: string): string {
  return `## ${title}\n\n${body}`;
}

function table(rows: readonly Row[]): string {
  const shown = rows.filter(([, value]) => value !== null);
  return ['| | |', '|---|---|', ...shown.map(([name, value]) => `| ${name} | ${inline(String(value))} |`)].join('\n');
}

/** A text that stays on its line and in its cell. */
function inline(text: string): string {
  return text.replace(/\s+/g, ' ').replaceAll('|', '\\|');
}

function code(language: string, lines: readonly string[]): string {
  return ['```' + language, ...lines, '```'].join('\n');
}
