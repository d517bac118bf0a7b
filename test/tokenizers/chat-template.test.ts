import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { type ChatMessage, type ChatTemplateOptions, HuggingFaceTokenizer, loadTokenizer } from '../../lib/tokenizers';
import { strftime } from '../../lib/tokenizers/chat-template';
import { pythonTimeout, runPython } from '../helpers/python';
import { sharedTemporaryDirectory } from '../helpers/tmp';
import { chatTemplates } from './chat-templates';

const directory = sharedTemporaryDirectory();

const tool = {
  type: 'function',
  function: {
    name: 'weather',
    description: 'Gets the weather, e.g. in "Zürich" <b>',
    parameters: { type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer' } }, required: [] },
  },
};
const call = {
  id: 'abc123def',
  type: 'function',
  function: { name: 'weather', arguments: { city: 'Zürich', days: 2 } },
};

const conversations: Record<string, ChatMessage[]> = {
  plain: [{ role: 'user', content: '  Hello {{ bos_token }} 😀\n' }],
  turns: [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: "What's\tthis?" },
    { role: 'assistant', content: '<think>\nhm\n</think>\n\nA test.\n' },
    { role: 'user', content: 'Thanks </s>' },
  ],
  answered: [
    { role: 'user', content: 'One' },
    { role: 'assistant', content: ' Two ', reasoning: 'because', name: null },
  ],
  tools: [
    { role: 'user', content: 'Weather?' },
    { role: 'assistant', content: null, tool_calls: [call] },
    { role: 'tool', content: '{"degrees": 21.5}', tool_call_id: 'abc123def', name: 'weather' },
  ],
  parts: [{ role: 'user', content: [{ type: 'text', text: ' Look ' }, { type: 'image' }] }],
  wrongOrder: [
    { role: 'assistant', content: 'I begin' },
    { role: 'user', content: 'No' },
  ],
};

const settings: ChatTemplateOptions[] = [
  {},
  {
    addGenerationPrompt: true,
    variables: { enable_thinking: false, date_string: '1 Jan 2026', tools_in_user_message: false },
  },
  { addGenerationPrompt: true, tools: [tool, tool], documents: [{ title: 'a title', text: 'SOME text' }] },
];

interface Case {
  family: string;
  conversation: string;
  options: ChatTemplateOptions;
  /** What transformers gives: null where it refuses the conversation. */
  text?: string | null;
}

const cases: Case[] = [...Object.keys(chatTemplates), 'named'].flatMap((family) =>
  Object.keys(conversations)
    // Where a template takes a list for a text, Python writes the list's repr.
    .filter((conversation) => conversation !== 'parts' || !/3.1|2.5|granite/.test(family))
    .flatMap((conversation) => settings.map((options) => ({ family, conversation, options }))),
);

beforeAll(async () => {
  const tokens = { bos_token: '<s>', eos_token: { content: '</s>', __type: 'AddedToken' }, unk_token: '<unk>' };
  const { qwen3, phi3 } = chatTemplates;
  const named = [
    { name: 'default', template: phi3 },
    { name: 'tool_use', template: qwen3 },
  ];
  for (const [i, family] of [...Object.keys(chatTemplates), 'named'].entries()) {
    const at = path.join(directory, family);
    mkdirSync(at);
    writeFileSync(path.join(at, 'tokenizer.json'), JSON.stringify(tokenizerJson));
    // Half of them have the template in a file of its own.
    const inFile = i % 2 === 1 && family !== 'named';
    const template = family === 'named' ? named : inFile ? 'not this one' : chatTemplates[family];
    const config = { ...tokens, tokenizer_class: 'PreTrainedTokenizerFast', chat_template: template };
    writeFileSync(path.join(at, 'tokenizer_config.json'), JSON.stringify(config));
    if (inFile) writeFileSync(path.join(at, 'chat_template.jinja'), chatTemplates[family]!);
  }
  writeFileSync(path.join(directory, 'cases.json'), JSON.stringify({ cases, conversations }));
  const results = await runPython(path.join(__dirname, 'chat_templates.py'), [directory]);
  (JSON.parse(results) as (string | null)[]).forEach((text, i) => (cases[i]!.text = text));
}, pythonTimeout);

/** Bytes, and the special tokens of the templates. */
const tokenizerJson = {
  version: '1.0',
  added_tokens: ['<s>', '</s>', '<unk>'].map((content, id) => ({
    ...{ id, content, special: true, normalized: false, single_word: false, lstrip: false, rstrip: false },
  })),
  pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
  decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
  model: { type: 'BPE', vocab: { '<s>': 0, '</s>': 1, '<unk>': 2, a: 3 }, merges: [] },
};

describe('applyChatTemplate', () => {
  it.each([...Object.keys(chatTemplates), 'named'])('writes what transformers writes: %s', async (family) => {
    const tokenizer = (await loadTokenizer(path.join(directory, family))) as HuggingFaceTokenizer;
    const own = cases.filter((one) => one.family === family);
    for (const { conversation, options, text } of own) {
      const apply = (): string => tokenizer.applyChatTemplate(conversations[conversation]!, options);
      if (text === null)
        expect(apply, conversation).toThrow(expect.objectContaining({ code: 'ERR_TORCHBIND_CHAT_TEMPLATE' }));
      else expect(apply(), conversation).toBe(text);
    }
    expect(own.filter(({ text }) => typeof text === 'string').length).toBeGreaterThan(5);
  });

  const plain = conversations.plain!;
  const make = (chatTemplate?: string): HuggingFaceTokenizer =>
    new HuggingFaceTokenizer(tokenizerJson, { chatTemplate });

  it('takes another template, and says what is missing or wrong', () => {
    expect(make().applyChatTemplate(plain, { chatTemplate: '{{ messages[0].role }}' })).toBe('user');
    const missing = { code: 'ERR_TORCHBIND_CHAT_TEMPLATE', message: expect.stringContaining('chatTemplate') as string };
    expect(() => make().applyChatTemplate(plain)).toThrow(expect.objectContaining(missing));
    const invalid = expect.objectContaining({ code: 'ERR_TORCHBIND_INVALID_ARGUMENT' }) as Error;
    for (const wrong of [undefined, [], ['a'], 'text', [[]]])
      expect(() => make('a').applyChatTemplate(wrong as never)).toThrow(invalid);
    for (const options of [
      { tools: 1 },
      { addGenerationPrompt: 1 },
      { documents: [1] },
      { variables: [] },
      { chatTemplate: 1 },
    ])
      expect(() => make('a').applyChatTemplate(plain, options as never)).toThrow(invalid);
    expect(() => make('a').applyChatTemplate([{ role: 'user', content: 1n }])).toThrow(invalid);
  });

  const hostile = {
    'a syntax error': '{% for %}',
    'a long range': '{{ range(10 ** 9) }}{{ range(1000000000) }}',
    'a doubled list': '{% set n = namespace(a=[1]) %}{% for i in range(60) %}{% set n.a = n.a + n.a %}{% endfor %}',
    'a doubled text': '{% set n = namespace(a="x") %}{% for i in range(60) %}{% set n.a = n.a + n.a %}{% endfor %}',
    'a doubled text of filters':
      '{% set n = namespace(a="x") %}{% for i in range(60) %}{% set n.a = n.a | replace("x", "xx") %}{% endfor %}',
    'nested lists':
      '{% set n = namespace(a=[1]) %}{% for i in range(60) %}{% set n.a = [n.a, n.a] %}{% endfor %}{{ n.a | tojson }}',
    'a call of itself': '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}',
    constructors: '{{ messages.constructor.constructor("return process")().exit() }}',
  };
  it.each(Object.entries(hostile))('ends a template with %s', { timeout: 60_000 }, (_, template) => {
    const code = expect.objectContaining({ code: 'ERR_TORCHBIND_CHAT_TEMPLATE' }) as Error;
    expect(() => make(template).applyChatTemplate(plain)).toThrow(code);
  });

  it("writes dates as Python's strftime does", () => {
    const date = new Date(2026, 0, 5, 15, 4, 9);
    expect(strftime('%d %b %Y|%B|%A %a|%y-%m|%H:%M:%S|%I %p|%%|%Q', date)).toBe(
      '05 Jan 2026|January|Monday Mon|26-01|15:04:09|03 PM|%|%Q',
    );
  });
});
