// GPT-2's tokens, the one file of js-tiktoken that the package needs: 0.5 MB of its 22.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { inRoot } from './steps.mjs';

/** Where lib/tokenizers/gpt2.ts reads it. */
const OUTPUT = 'dist/tokenizers/gpt2-ranks.json';

export function writeGpt2Ranks() {
  const require = createRequire(import.meta.url);
  const { version, license } = JSON.parse(readFileSync(inRoot('node_modules/js-tiktoken/package.json'), 'utf8'));
  const { pat_str, special_tokens, bpe_ranks } = require('js-tiktoken/ranks/gpt2');
  const packed = { source: `js-tiktoken ${version}, ${license} license`, pat_str, special_tokens, bpe_ranks };
  mkdirSync(path.dirname(inRoot(OUTPUT)), { recursive: true });
  writeFileSync(inRoot(OUTPUT), JSON.stringify(packed));
}
