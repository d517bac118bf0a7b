import { stat } from 'node:fs/promises';
import path from 'node:path';
import { describe, CheckpointCode, CheckpointError, withPath } from '../errors';
import { parseSettings } from '../formats/files/python-json';
import { readSmallFile } from '../formats/files/small-file';
import type { ChatTemplates } from './chat-template';
import type { Tokenizer } from './tokenizer';
import { isObject, type Json } from './json-checks';

/** What the files next to a tokenizer say of it. */
export interface Settings {
  startToken?: string;
  addPrefixSpace: boolean;
  chatTemplate?: ChatTemplates;
  specialTokens: Record<string, string>;
}

/** The files, in the order in which a later one adds what is missing. */
const tokenFiles = ['tokenizer_config.json', 'special_tokens_map.json'];
const templateFile = 'chat_template.jinja';

/** Reads `tokenizer_config.json`, `special_tokens_map.json` and `chat_template.jinja` next to a file. */
export async function settingsBeside(file: string): Promise<Settings> {
  const at = (name: string): string => path.join(path.dirname(file), name);
  const [config = {}, map = {}] = await Promise.all(tokenFiles.map((name) => objectAt(at(name))));
  const specialTokens = { ...tokensOf(map), ...tokensOf(config) };
  const { bos_token: bos, eos_token: eos } = tokensOf(config);
  return {
    startToken: bos ?? eos,
    addPrefixSpace: config.add_prefix_space === true,
    // transformers prefers the file of its own.
    chatTemplate: (await isFile(at(templateFile)))
      ? (await readSmallFile(at(templateFile))).toString('utf8')
      : templatesOf(config.chat_template ?? undefined, at(tokenFiles[0]!)),
    specialTokens,
  };
}

async function objectAt(file: string): Promise<Json> {
  const json = (await isFile(file)) ? await readJson(file) : {};
  return isObject(json) ? json : {};
}

/** A token is there as its text, or as an object that has it. */
function tokensOf(json: Json): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const [name, token] of Object.entries(json)) {
    const text = isObject(token) ? token.content : token;
    if (name.endsWith('_token') && typeof text === 'string') tokens[name] = text;
  }
  return tokens;
}

/** One template, or a list of them with their names. */
function templatesOf(value: unknown, where: string): ChatTemplates | undefined {
  if (value === undefined || typeof value === 'string') return value;
  const list = (Array.isArray(value) ? value : [null]) as unknown[];
  const templates = list.map((item): [string, string] => {
    const { name, template } = isObject(item) ? item : ({} as Json);
    if (typeof name === 'string' && typeof template === 'string') return [name, template];
    const reason = 'chat_template must be a text, or a list of templates with a name each';
    throw new CheckpointError(`${where}: ${reason}; got ${describe(value)}`, CheckpointCode.format);
  });
  return Object.fromEntries(templates);
}

/**
 * What `tokenizer_config.json` says of a tokenizer besides its vocabulary, as `settingsBeside` reads it: special tokens by name, and
 * the chat template. Undefined without either.
 */
export function settingsJson(tokenizer: Tokenizer): Json | undefined {
  const { chatTemplate: template, specialTokens = {} } = tokenizer as Tokenizer &
    Partial<Pick<Settings, 'specialTokens'>>;
  const named = typeof template === 'object' ? Object.entries(template) : undefined;
  const json: Json = {
    ...specialTokens,
    ...(template === undefined
      ? {}
      : { chat_template: named?.map(([name, text]) => ({ name, template: text })) ?? template }),
  };
  return Object.keys(json).length === 0 ? undefined : json;
}

export async function isFile(file: string): Promise<boolean> {
  return stat(file).then(
    (info) => info.isFile(),
    () => false,
  );
}

export async function readJson(file: string): Promise<unknown> {
  const bytes = await readSmallFile(file);
  return withPath(file, () => parseSettings(bytes.toString('utf8')));
}
