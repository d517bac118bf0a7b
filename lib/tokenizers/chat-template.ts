import { createRequire } from 'node:module';
import { checkOptions, describe, TorchBindError } from '../errors';
import { chatInterpreter, type Jinja, type Node } from './chat-interpreter';
import { runWithin } from './regex';

/** A message of a conversation. A template may read other fields too, such as `tool_calls`. */
export interface ChatMessage {
  /** `system`, `user`, `assistant`, or another role that the template knows. */
  role: string;
  content?: unknown;
  [field: string]: unknown;
}

/** Options of `applyChatTemplate`. */
export interface ChatTemplateOptions {
  /** Whether the text ends with the prefix of an answer. Default false. */
  addGenerationPrompt?: boolean;
  /** JSON schemas of functions that the model may call. */
  tools?: readonly object[];
  /** Documents for retrieval, each with a `title` and a `text`. */
  documents?: readonly object[];
  /** Another template: its text, or the name of one of the tokenizer's templates. */
  chatTemplate?: string;
  /** Other variables of the template, such as `enable_thinking`. */
  variables?: Readonly<Record<string, unknown>>;
}

/** The templates of a tokenizer: one, or several by name. */
export type ChatTemplates = string | Readonly<Record<string, string>>;

/** The template that a call uses, by the rules of transformers' `get_chat_template`. */
function chooseTemplate(templates: ChatTemplates | undefined, { chatTemplate, tools }: ChatTemplateOptions): string {
  if (typeof templates === 'object') {
    const named = (name: string): string | undefined => (Object.hasOwn(templates, name) ? templates[name] : undefined);
    if (chatTemplate !== undefined) return named(chatTemplate) ?? chatTemplate;
    const found = (tools === undefined ? undefined : named('tool_use')) ?? named('default');
    if (found !== undefined) return found;
    const names = Object.keys(templates).sort().join(', ');
    throw refuse(`the tokenizer has several templates and none is named 'default'. Pass chatTemplate: one of ${names}`);
  }
  const template = chatTemplate ?? templates;
  if (template !== undefined) return template;
  throw refuse('the tokenizer has no chat template. Pass one as chatTemplate, or write the prompt as a text');
}

const optionNames = ['addGenerationPrompt', 'tools', 'documents', 'chatTemplate', 'variables'];

/** The text of a conversation: transformers' `apply_chat_template(messages, tokenize=False)`. */
export function renderChat(
  templates: ChatTemplates | undefined,
  specialTokens: Readonly<Record<string, string>>,
  messages: readonly ChatMessage[],
  options: ChatTemplateOptions,
): string {
  checkOptions(options, optionNames, 'applyChatTemplate');
  checkShapes(messages, options);
  const template = chooseTemplate(templates, options);
  const { addGenerationPrompt = false, tools = null, documents = null, variables = {} } = options;
  const input = plain({
    ...specialTokens,
    ...variables,
    messages: messages.map(readMessage),
    tools,
    documents,
    add_generation_prompt: addGenerationPrompt,
  });
  return render(template, input);
}

function checkShapes(messages: unknown, options: ChatTemplateOptions): void {
  const isList = Array.isArray(messages) && messages.length > 0;
  if (!isList || !messages.every(isPlainObject))
    throw invalid(`expected messages to be a list of at least one { role, content }, got ${describe(messages)}`);
  const { addGenerationPrompt = false, chatTemplate = '', variables = {} } = options;
  if (typeof addGenerationPrompt !== 'boolean')
    throw invalid(`expected addGenerationPrompt to be true or false, got ${describe(addGenerationPrompt)}`);
  if (typeof chatTemplate !== 'string')
    throw invalid(`expected chatTemplate to be a text, got ${describe(chatTemplate)}`);
  if (!isPlainObject(variables)) throw invalid(`expected variables to be an object, got ${describe(variables)}`);
  for (const name of ['tools', 'documents'] as const) {
    const list: unknown = options[name];
    if (list !== undefined && !(Array.isArray(list) && list.every(isPlainObject)))
      throw invalid(`expected ${name} to be a list of objects, got ${describe(list)}`);
  }
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Names under which programs pass a message's reasoning. Templates read the first; those of gpt-oss read the second. */
const reasoningFields = ['reasoning_content', 'thinking', 'reasoning'];

/** transformers drops fields without a value, which many templates would write as "None", and adds the names of the reasoning. */
function readMessage(message: ChatMessage): Record<string, unknown> {
  const fields = Object.fromEntries(
    Object.entries(message).filter(([, value]) => value !== null && value !== undefined),
  );
  const name = reasoningFields.find((field) => field in fields);
  if (name === undefined) return fields;
  return { thinking: fields[name], ...fields, reasoning_content: fields[name] };
}

/** A copy of plain data: a template must see no function and no object with methods. */
function plain(value: object): { variables: Record<string, unknown>; size: number } {
  try {
    const json = JSON.stringify(value);
    return { variables: JSON.parse(json) as Record<string, unknown>, size: json.length };
  } catch (error) {
    throw invalid(`messages, tools and variables must be JSON: ${(error as Error).message}`, error);
  }
}

/** Time limit. Templates are untrusted; honest ones need a few milliseconds. */
const milliseconds = 2000;

/** The template that was parsed last: a server applies the same one to each request. */
let parsed: { template: string; program: Node } | undefined;

function render(template: string, { variables, size }: { variables: Record<string, unknown>; size: number }): string {
  const jinja = createRequire(__filename)('@huggingface/jinja') as Jinja;
  const tooLong = (limit: number): TorchBindError =>
    refuse(`the template took more than ${limit} ms, which no honest template needs. Pass another as chatTemplate`);
  try {
    return runWithin(
      milliseconds + Math.ceil(size / 1000),
      () => {
        if (parsed?.template !== template) {
          const tokens = jinja.tokenize(template, { lstrip_blocks: true, trim_blocks: true });
          parsed = { template, program: jinja.parse(tokens) };
        }
        const environment = new jinja.Environment();
        // A later variable of a name replaces the global, as in Python.
        for (const [name, value] of Object.entries({ ...globals(), ...variables })) environment.set(name, value);
        return chatInterpreter(jinja, environment, size, () => {
          throw refuse('the template makes far more text than the conversation has. Pass another as chatTemplate');
        }).run(parsed.program).value as string;
      },
      tooLong,
    );
  } catch (error) {
    if (error instanceof TorchBindError) throw error;
    throw refuse(`the template cannot be applied: ${(error as Error).message}`, error);
  }
}

function globals(): Record<string, unknown> {
  return {
    true: true,
    True: true,
    false: false,
    False: false,
    none: null,
    None: null,
    range,
    strftime_now: (format: unknown) => strftime(String(format), new Date()),
    raise_exception: (message: unknown) => {
      throw refuse(`the template refuses this conversation: ${String(message)}`);
    },
  };
}

/** Python's sandbox allows as many. */
const longestRange = 100_000;

function range(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= longestRange)) throw refuse(`range() has ${length} numbers; at most ${longestRange} are allowed`);
  return Array.from({ length }, (_, i) => start + i * step);
}

const months = 'January February March April May June July August September October November December'.split(' ');
const days = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ');

/** Python's strftime in the C locale, with the fields that templates use. */
export function strftime(format: string, date: Date): string {
  const two = (n: number): string => String(n).padStart(2, '0');
  const fields: Record<string, () => string> = {
    Y: () => String(date.getFullYear()),
    y: () => two(date.getFullYear() % 100),
    m: () => two(date.getMonth() + 1),
    d: () => two(date.getDate()),
    B: () => months[date.getMonth()]!,
    b: () => months[date.getMonth()]!.slice(0, 3),
    A: () => days[date.getDay()]!,
    a: () => days[date.getDay()]!.slice(0, 3),
    H: () => two(date.getHours()),
    I: () => two(date.getHours() % 12 || 12),
    p: () => (date.getHours() < 12 ? 'AM' : 'PM'),
    M: () => two(date.getMinutes()),
    S: () => two(date.getSeconds()),
    '%': () => '%',
  };
  return format.replace(/%(.)/gs, (whole, field: string) => fields[field]?.() ?? whole);
}

function refuse(reason: string, cause?: unknown): TorchBindError {
  return new TorchBindError(`applyChatTemplate: ${reason}`, 'ERR_TORCHBIND_CHAT_TEMPLATE', { cause });
}

function invalid(reason: string, cause?: unknown): TorchBindError {
  return new TorchBindError(`applyChatTemplate: ${reason}`, 'ERR_TORCHBIND_INVALID_ARGUMENT', { cause });
}
