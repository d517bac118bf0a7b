import { Cost, type Spend } from './budget';
import {
  ByteArray,
  ComplexValue,
  Counter,
  DefaultDict,
  Float,
  FrozenSet,
  GlobalName,
  type InertObject,
  OrderedDict,
  Tuple,
} from './types';
import { CheckpointCode } from '../errors';
import { judgeName } from './verdicts';

/**
 * A class or function that a pickle may name. It is data: a name, and what torchbind makes of a call to it.
 * Nothing is ever looked up or executed that is not in a table of these.
 */
export class PickleGlobal {
  constructor(
    /** `collections.OrderedDict` */
    readonly name: string,
    /**
     * What REDUCE makes of the arguments. Throws `GlobalError` where they are not what the Python callable is given by
     * pickles that exist. Takes what it makes from the budget with `spend`, before it makes it.
     */
    readonly call?: (args: Tuple, spend: Spend, keys: Keys) => unknown,
  ) {}
}

/** Sets keys of dicts and members of sets as Python compares them; throws `GlobalError` for those that Python cannot have. */
export interface Keys {
  set(dict: Map<unknown, unknown>, key: unknown, value: unknown): void;
  add(set: Set<unknown>, member: unknown): void;
}

/**
 * What a call made and BUILD completes: `build` gives the finished value, which takes its place wherever it is
 * referred to.
 */
export abstract class Unfinished {
  /** @param what for the message where it stays unfinished: `a NumPy array` */
  constructor(readonly what: string) {}

  /** Throws `GlobalError` where the state is not one. */
  abstract build(state: unknown): unknown;

  /** What stands for it among inert data, if anything does. */
  asData?(): InertObject;
}

/** A global that stands for a value, not for a callable: `torch.float32`. */
export class PickleConstant {
  constructor(readonly value: unknown) {}
}

/** A global that is known and that torchbind does not read. */
export class UnsupportedGlobal {
  /** @param what for the message: `sparse tensors` */
  constructor(readonly what: string) {}
}

export type GlobalEntry = PickleGlobal | PickleConstant | UnsupportedGlobal;

/** Full name -> what it is. Names are those of Python 3. */
export type GlobalTable = ReadonlyMap<string, GlobalEntry>;

/** The arguments of a known global are wrong; the reader adds where. */
export class GlobalError extends Error {}

/** The allow-listed globals of Python itself. */
export const pythonGlobals: GlobalTable = new Map<string, GlobalEntry>(
  [
    new PickleGlobal('collections.OrderedDict', orderedDict),
    new PickleGlobal('collections.Counter', counter),
    new PickleGlobal('collections.defaultdict', defaultDict),
    new PickleGlobal('builtins.set', (args, spend, keys) => filled(new Set(), args, spend, keys)),
    new PickleGlobal('builtins.frozenset', (args, spend, keys) => filled(new FrozenSet(), args, spend, keys)),
    new PickleGlobal('builtins.bytes', emptyBytes),
    new PickleGlobal('builtins.bytearray', bytearray),
    new PickleGlobal('builtins.complex', complex),
    new PickleGlobal('_codecs.encode', encode),
    // Factories of defaultdicts: names, which nothing calls.
    ...['list', 'dict', 'tuple', 'int', 'float', 'str', 'bool'].map((name) => new PickleGlobal(`builtins.${name}`)),
  ].map((global) => [global.name, global]),
);

function orderedDict(args: Tuple, spend: Spend, keys: Keys): OrderedDict {
  spend(2 * Cost.map);
  if (args.length === 0) return new OrderedDict();
  const [items] = args;
  if (args.length !== 1 || !Array.isArray(items)) throw new GlobalError('expected no arguments, or a list of pairs');
  spend(items.length * Cost.entry);
  const dict = new OrderedDict();
  for (const pair of items as unknown[]) {
    if (!Array.isArray(pair) || pair.length !== 2) throw new GlobalError('expected a list of pairs');
    keys.set(dict, pair[0], pair[1]);
  }
  return dict;
}

function counter(args: Tuple, spend: Spend): Counter {
  spend(Cost.map);
  const [counts] = args;
  if (args.length === 0) return new Counter();
  if (args.length !== 1 || !(counts instanceof Map)) throw new GlobalError('expected one dict of counts');
  spend(counts.size * Cost.entry);
  return new Counter(counts as Map<unknown, unknown>);
}

function defaultDict(args: Tuple, spend: Spend): DefaultDict {
  spend(Cost.map);
  const [factory = null] = args;
  if (args.length > 1) throw new GlobalError('expected one factory');
  if (factory instanceof RefusedName) throw factory.refusal;
  if (factory === null || factory instanceof GlobalName) return new DefaultDict(factory);
  if (!(factory instanceof PickleGlobal)) throw new GlobalError('the factory is not a class or function');
  return new DefaultDict(nameOf(factory));
}

/** A known class or function as a value. */
export function nameOf({ name }: PickleGlobal): GlobalName {
  const dot = name.lastIndexOf('.');
  return new GlobalName(name.slice(0, dot), name.slice(dot + 1));
}

function filled(set: Set<unknown>, args: Tuple, spend: Spend, keys: Keys): Set<unknown> {
  spend(Cost.map);
  const [items] = args;
  if (args.length === 0) return set;
  if (args.length !== 1 || !Array.isArray(items)) throw new GlobalError('expected one list of members');
  spend(items.length * Cost.entry);
  for (const item of items as unknown[]) keys.add(set, item);
  return set;
}

/** Python writes b'' as `bytes()` before protocol 3. */
function emptyBytes(args: Tuple, spend: Spend): Uint8Array {
  spend(Cost.bytes);
  if (args.length !== 0) throw new GlobalError('expected no arguments');
  return new Uint8Array();
}

/**
 * bytearray(b'...') or, before protocol 3, bytearray('...', 'latin-1'). A size is refused: it would allocate at will.
 */
function bytearray(args: Tuple, spend: Spend): ByteArray {
  spend(Cost.bytes);
  if (args.length === 0) return new ByteArray();
  const [data] = args;
  if (args.length === 1 && data instanceof Uint8Array) {
    spend(data.length);
    return new ByteArray(data);
  }
  return encoded(args, spend, ByteArray);
}

function complex(args: Tuple): ComplexValue {
  const [re, im] = args.map((part) => (part instanceof Float ? part.value : part));
  if (args.length !== 2 || typeof re !== 'number' || typeof im !== 'number')
    throw new GlobalError('expected two numbers');
  return new ComplexValue(re, im);
}

/** How protocols 0 to 2 write bytes: `_codecs.encode('...', 'latin1')`. */
function encode(args: Tuple, spend: Spend): Uint8Array {
  return encoded(args, spend, Uint8Array);
}

function encoded<Bytes extends Uint8Array>(args: Tuple, spend: Spend, Type: new (length: number) => Bytes): Bytes {
  const [text, codec] = args;
  if (
    args.length !== 2 ||
    typeof text !== 'string' ||
    typeof codec !== 'string' ||
    !/^(latin-?1|iso-?8859-1)$/i.test(codec)
  ) {
    throw new GlobalError("expected text and the codec 'latin1'");
  }
  spend(Cost.bytes + text.length);
  const bytes = new Type(text.length);
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit > 0xff) throw new GlobalError('the text holds a character that Latin-1 does not have');
    bytes[i] = unit;
  }
  return bytes;
}

/** What the names of a pickle stand for. */
export interface NameOptions {
  /** The classes and functions that the pickle may use, by name. */
  globals: GlobalTable;
  /**
   * Gives objects of unknown classes as `InertObject` and unknown names as `GlobalName`, instead of refusing them.
   * Names that only an attack has a use for are refused all the same, except with `all`, which is for inspection.
   */
  inert?: boolean | 'all';
}

/** Why a name that only an attack has a use for is refused. */
export function attackText(name: string, reason: string): string {
  return (
    `the pickle names ${JSON.stringify(name)}, which ${reason} and has no place in a checkpoint: the file may have been made to do ` +
    'harm. Nothing in it was executed'
  );
}

/** A name that is refused unless it turns out to be that of a subclass of dict, which needs no code. */
export class RefusedName extends GlobalName {
  /** How many objects of it there are, and how many of them are not known to be dicts. */
  objects = 0;
  others = 0;

  constructor(
    module: string,
    name: string,
    readonly refusal: Error,
  ) {
    super(module, name);
  }
}

/**
 * What a name in a pickle stands for: an entry of the table, or inert data if that was asked for. Nothing is ever imported.
 *
 * @param fail makes the error for the opcode that is being read
 */
export function lookUp(
  module: string,
  name: string,
  { globals, inert = false }: NameOptions,
  spend: Spend,
  fail: (message: string, code: CheckpointCode) => Error,
): unknown {
  const fullName = `${module === '__builtin__' ? 'builtins' : module}.${name}`;
  const entry = globals.get(fullName);
  if (entry instanceof UnsupportedGlobal) {
    throw fail(`the file holds ${entry.what} (${fullName}), which torchbind does not read`, CheckpointCode.unsupported);
  }
  if (entry !== undefined) return entry instanceof PickleConstant ? entry.value : entry;
  spend(Cost.object);
  const { verdict, reason } = judgeName(module, name);
  if (inert !== 'all' && verdict === 'attack-only') {
    throw fail(attackText(fullName, reason), CheckpointCode.global);
  }
  if (inert !== false) return new GlobalName(module, name);
  const refusal = fail(
    `the pickle names ${JSON.stringify(fullName)}, which is not a class or function that torchbind knows; ` +
      "nothing in a checkpoint is executed. load(path, { unknown: 'inert' }) gives such objects as plain data",
    CheckpointCode.global,
  );
  if (verdict === 'code') throw refusal;
  spend(5 * Cost.object);
  return new RefusedName(module, name, refusal);
}
