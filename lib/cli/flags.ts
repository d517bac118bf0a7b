import { InvalidArgumentError, Option } from 'commander';

export interface FlagOptions<T> {
  /** Environment variable that gives the value where the flag does not. */
  env?: string;
  /** Turns the text into the value. */
  parse?: (text: string) => T;
  choices?: readonly string[];
}

/** A flag in both spellings, `--max-iters` and `--max_iters`. */
export function flag<T>(flags: string, description: string, { env, parse, choices }: FlagOptions<T> = {}): Option {
  const [name] = flags.split(' ') as [string];
  const snake = `--${name.slice(2).replaceAll('-', '_')}`;
  const option = new Option(snake === name ? flags : `${snake}, ${flags}`, description);
  if (choices !== undefined) option.choices(choices);
  if (parse !== undefined) option.argParser(parse);
  return env === undefined ? option : option.env(env);
}

/** A flag that is on when it is given, and can be turned off: `--bias`, `--bias false`, `BIAS=false`. */
export function toggle(name: string, description: string, env?: string): Option {
  return flag(`${name} [true|false]`, description, { parse: yesOrNo, ...(env === undefined ? {} : { env }) }).preset(
    'true',
  );
}

/** How a flag is shown in help: in the one spelling that is documented. */
export function shownFlags(option: Option): string {
  return option.flags.replace(/^--\w+, (?=--)/, '');
}

function yesOrNo(text: string): boolean {
  const value = text.toLowerCase();
  if (['true', '1', 'yes', 'on'].includes(value)) return true;
  if (['false', '0', 'no', 'off', ''].includes(value)) return false;
  throw new InvalidArgumentError('It is true or false.');
}

/** An integer of at least `least`. */
export function count(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value >= least) return value;
    throw new InvalidArgumentError(`It is an integer of at least ${least}.`);
  };
}

/** A number from `least` to `most`. */
export function number(least = -Infinity, most = Infinity): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== '' && value >= least && value <= most) return value;
    const range = most === Infinity ? `of at least ${least}` : `from ${least} to ${most}`;
    throw new InvalidArgumentError(`It is a number${least === -Infinity ? '' : ` ${range}`}.`);
  };
}

export function checkpointDirectory(): Option {
  return flag('--checkpoint-dir <dir>', 'directory that holds the models', { env: 'CHECKPOINT_DIR' }).default(
    'checkpoints',
  );
}

export function device(): Option {
  return flag('--device <device>', 'device to compute on: auto, cpu, cuda, cuda:1, ...', { env: 'DEVICE' });
}

export function allowMixed(): Option {
  return flag(
    '--allow-mixed',
    'if another program replaced the weights, use them with the optimizer and step of the old weights',
  );
}

export function jsonFlag(): Option {
  return flag('--json', 'print JSON to stdout');
}
