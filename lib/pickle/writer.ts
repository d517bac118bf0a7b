import { describe, TorchBindError } from '../errors';
import { ByteWriter, writeInt } from './byte-writer';
import { Op } from './opcodes';
import { encodeUtf8 } from './text';
import {
  ByteArray,
  ComplexValue,
  Counter,
  DefaultDict,
  DictSubclass,
  Float,
  FrozenSet,
  GlobalName,
  InertObject,
  isPythonInt,
  OrderedDict,
  Tuple,
} from './types';

export interface PickleWriterOptions {
  /** How to write an object of a class outside the pickle format itself; undefined for an unknown class. */
  reduce?: (value: object) => Reduced | undefined;
}

/** Items in one APPENDS or SETITEMS, as Python's pickler has it. */
const batchSize = 1000;

/**
 * Bytes objects are written as text (see `bytes`), and a JavaScript string can hold no more than 2^29 - 24
 * characters.
 */
const maxBytes = 2 ** 27;

/** One object, which is known again at once: every tensor has an OrderedDict of hooks. */
const orderedDictName = new GlobalName('collections', 'OrderedDict');

/** One value on its way into the pickle, linked to its container for messages; or an action to take in its turn. */
interface Task {
  value?: unknown;
  action?: () => void;
  parent?: Task | undefined;
  key?: unknown;
}

/**
 * Writes a value as a pickle of protocol 2, with the opcodes and the globals that `torch.load(weights_only=True)`
 * accepts, and byte for byte as Python's own pickler orders them.
 *
 * Objects that occur more than once are written once and shared again when read, cycles through lists and dicts
 * included. Plain objects are written as dicts. The stack is explicit, so depth is bounded by memory alone.
 *
 * @throws TorchBindError ERR_TORCHBIND_UNSUPPORTED_VALUE with the path to a value that cannot be written
 */
export function writePickle(value: unknown, options: PickleWriterOptions = {}): Uint8Array {
  return new PickleWriter(options).write(value);
}

class PickleWriter {
  private readonly out = new ByteWriter();
  private readonly memo = new Map<unknown, number>();
  private readonly globals = new Map<string, GlobalName>();
  /**
   * Tuples and arguments that are being written: to meet one again inside itself is a cycle that protocol 2 cannot
   * close.
   */
  private readonly open = new Set<unknown>();
  private memoSize = 0;
  private tasks: Task[] = [];
  private current: Task = {};

  constructor(private readonly options: PickleWriterOptions) {}

  write(root: unknown): Uint8Array {
    this.out.uint8(Op.PROTO);
    this.out.uint8(2);
    this.tasks.push({ value: root });
    for (let task = this.tasks.pop(); task !== undefined; task = this.tasks.pop()) {
      this.current = task;
      if (task.action !== undefined) task.action();
      else this.value(task.value);
    }
    this.out.uint8(Op.STOP);
    return this.out.bytes();
  }

  private value(value: unknown): void {
    switch (typeof value) {
      case 'string':
        return this.text(value);
      case 'number':
        return isPythonInt(value) ? this.int(BigInt(value)) : this.float(value);
      case 'bigint':
        return this.int(value);
      case 'boolean':
        return this.out.uint8(value ? Op.NEWTRUE : Op.NEWFALSE);
      case 'object':
        return value === null ? this.out.uint8(Op.NONE) : this.object(value);
      default:
        throw this.unwritableError(describe(value));
    }
  }

  private object(value: object): void {
    if (value instanceof Float) return this.float(value.value);
    if (this.recall(value)) return;
    if (this.open.has(value)) throw this.unwritableError('a tuple or set that contains itself');
    if (value instanceof Tuple) return this.tuple(value);
    if (value instanceof Map) return this.map(value);
    if (value instanceof Set)
      return this.reduction(
        value,
        builtin(value instanceof FrozenSet ? 'frozenset' : 'set'),
        Tuple.of<unknown>([...value]),
      );
    if (value instanceof InertObject) return this.inert(value);
    if (value instanceof ComplexValue)
      return this.reduction(value, builtin('complex'), Tuple.of(new Float(value.re), new Float(value.im)));
    if (value instanceof ByteArray) return this.reduction(value, builtin('bytearray'), Tuple.of(new Uint8Array(value)));
    if (value instanceof Uint8Array) return this.bytes(value);
    if (isReduced(value)) return this.reduced(value, value);
    const reduced = this.options.reduce?.(value);
    return reduced === undefined ? this.plain(value) : this.reduced(value, reduced);
  }

  private reduced(value: object, reduced: Reduced): void {
    if (reduced instanceof Reduction) return this.reduction(value, reduced.callee, reduced.args, reduced.state);
    if (reduced instanceof GlobalName) return this.global(reduced);
    if (reduced instanceof Unwritable) throw this.unwritableError(reduced.what);
    this.sequence([{ value: reduced.id }, this.emit(Op.BINPERSID)]);
  }

  private plain(value: object): void {
    if (Array.isArray(value) && value.constructor === Array) return this.list(value);
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype === Object.prototype || prototype === null) return this.dict(value, Object.entries(value), true);
    throw this.unwritableError(describe(value));
  }

  private text(text: string): void {
    if (this.recall(text)) return;
    const bytes = encodeUtf8(text);
    this.out.uint8(Op.BINUNICODE);
    this.out.uint32(bytes.length);
    this.out.raw(bytes);
    this.memoize(text);
  }

  private int(value: bigint): void {
    if (!writeInt(this.out, value))
      throw this.unwritableError('an int of more than 255 bytes, which torch.load refuses');
  }

  private float(value: number): void {
    this.out.uint8(Op.BINFLOAT);
    this.out.float64(value);
  }

  private global(global: GlobalName): void {
    const name = `${global.module}\n${global.name}\n`;
    // One object a name, so that it can be found again.
    const key = this.globals.get(name) ?? global;
    if (this.recall(key)) return;
    this.globals.set(name, key);
    this.out.uint8(Op.GLOBAL);
    this.out.ascii(name);
    this.memoize(key);
  }

  private tuple(tuple: Tuple): void {
    if (tuple.length === 0) return this.out.uint8(Op.EMPTY_TUPLE);
    if (tuple.length > 3) this.out.uint8(Op.MARK);
    const op = [Op.TUPLE1, Op.TUPLE2, Op.TUPLE3][tuple.length - 1] ?? Op.TUPLE;
    this.open.add(tuple);
    const close = (): void => {
      this.open.delete(tuple);
      this.out.uint8(op);
      this.memoize(tuple);
    };
    this.sequence([...this.children(tuple), { action: close }]);
  }

  private list(list: unknown[]): void {
    this.out.uint8(Op.EMPTY_LIST);
    this.memoize(list);
    this.appendAll(list, true);
  }

  private appendAll(list: unknown[], exact: boolean): void {
    this.batches(
      this.children(list).map((child) => [child]),
      Op.APPEND,
      Op.APPENDS,
      exact,
    );
  }

  private map(map: Map<unknown, unknown>): void {
    if (map instanceof Counter)
      return this.reduction(map, new GlobalName('collections', 'Counter'), Tuple.of(new Map(map)));
    if (map instanceof DefaultDict) {
      const { factory } = map;
      const args = factory === null ? new Tuple() : Tuple.of(pythonTwo(factory));
      return this.sequence([
        ...[{ value: new GlobalName('collections', 'defaultdict') }, { value: args }],
        ...[this.create(map, Op.REDUCE), this.itemsOf(map)],
      ]);
    }
    if (map instanceof DictSubclass) return this.instance(map, new Tuple(), Op.NEWOBJ, [], map);
    if (!(map instanceof OrderedDict)) return this.dict(map, [...map], true);
    const state: Task[] = map.attributes.size === 0 ? [] : [this.child(new Map(map.attributes)), this.emit(Op.BUILD)];
    const items = map.size === 0 ? [] : [this.itemsOf(map)];
    this.sequence([
      ...[{ value: orderedDictName }, this.emit(Op.EMPTY_TUPLE)],
      ...[this.create(map, Op.REDUCE), ...items, ...state],
    ]);
  }

  /** As the class gave it to pickle: the bare instance, members and items of a subclass, then the state. */
  private inert(object: InertObject): void {
    const { args, called, members, items } = object;
    this.instance(object, args, called ? Op.REDUCE : Op.NEWOBJ, members, items);
  }

  private instance(
    object: InertObject | DictSubclass,
    args: Tuple,
    op: number,
    members: unknown[],
    items: Map<unknown, unknown>,
  ): void {
    const { module, name, state } = object;
    this.open.add(object);
    this.sequence([
      ...[{ value: new GlobalName(module, name) }, this.child(args, 'args')],
      this.create(object, op),
      ...(members.length === 0 ? [] : [this.within(() => this.appendAll(members, false))]),
      ...(items.size === 0 ? [] : [this.itemsOf(items)]),
      ...(state === null ? [] : [this.child(state), this.emit(Op.BUILD)]),
    ]);
  }

  /** Makes an object of what is on the stack. */
  private create(value: object, op: number): Task {
    return {
      action: () => {
        this.open.delete(value);
        this.out.uint8(op);
        this.memoize(value);
      },
    };
  }

  private itemsOf(map: Map<unknown, unknown>): Task {
    return this.within(() => this.items([...map], false));
  }

  /** An action whose values have the current one's place in messages. */
  private within(action: () => void): Task {
    return { action, parent: this.current.parent, key: this.current.key };
  }

  private dict(dict: object, entries: [unknown, unknown][], exact: boolean): void {
    this.out.uint8(Op.EMPTY_DICT);
    this.memoize(dict);
    this.items(entries, exact);
  }

  private items(entries: [unknown, unknown][], exact: boolean): void {
    const tasks = entries.map(([key, value]) => {
      this.checkKey(key);
      return [this.child(key, key), this.child(value, key)];
    });
    this.batches(tasks, Op.SETITEM, Op.SETITEMS, exact);
  }

  /**
   * Python writes a dict or list in batches; `exact` is its rule for the plain types, where a last batch may have one
   * item.
   */
  private batches(items: Task[][], one: number, many: number, exact: boolean): void {
    const tasks: Task[] = [];
    for (let start = 0; start < items.length; start += batchSize) {
      const batch = items.slice(start, start + batchSize);
      const single = batch.length === 1 && (!exact || items.length === 1);
      if (!single) tasks.push(this.emit(Op.MARK));
      for (const item of batch) tasks.push(...item);
      tasks.push(this.emit(single ? one : many));
    }
    this.sequence(tasks);
  }

  /**
   * torch.load refuses the opcodes for bytes, so they are written as Python does for protocol 2: text, to be encoded.
   */
  private bytes(bytes: Uint8Array): void {
    if (bytes.length > maxBytes)
      throw this.unwritableError(`bytes longer than ${maxBytes}; save them as a uint8 tensor`);
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
    this.reduction(bytes, new GlobalName('_codecs', 'encode'), Tuple.of(text, 'latin1'));
  }

  private reduction(value: object, callee: GlobalName, args: Tuple, state?: unknown): void {
    this.open.add(value);
    const call = (): void => {
      this.open.delete(value);
      this.out.uint8(Op.REDUCE);
      this.memoize(value);
    };
    const build = state === undefined ? [] : [this.child(state), this.emit(Op.BUILD)];
    this.sequence([{ value: callee }, this.child(args), { action: call }, ...build]);
  }

  /**
   * Keys that every reader can take, and that say something: `torch.load` would fail on a dict with a list as a key.
   */
  private checkKey(key: unknown): void {
    const fine =
      key === null ||
      typeof key !== 'object' ||
      key instanceof Tuple ||
      key instanceof Uint8Array ||
      key instanceof Float ||
      key instanceof InertObject;
    if (!fine) throw this.unwritableError(`a dict key that is ${describe(key)}`);
  }

  /** Puts tasks on the stack so that they run in this order, before everything that waits already. */
  private sequence(tasks: Task[]): void {
    for (let i = tasks.length - 1; i >= 0; i--) this.tasks.push(tasks[i]!);
  }

  private child(value: unknown, key?: unknown): Task {
    return { value, parent: this.current, key };
  }

  private children(values: unknown[]): Task[] {
    // A sparse array may claim 2^32 holes. Array.from also visits holes, which then are refused as undefined.
    if (values.length > 2 ** 24 && !(values.length - 1 in values)) throw this.unwritableError('an array with holes');
    return Array.from(values, (value, index) => this.child(value, index));
  }

  private emit(op: number): Task {
    return { action: () => this.out.uint8(op) };
  }

  private recall(value: unknown): boolean {
    const index = this.memo.get(value);
    if (index === undefined) return false;
    this.indexed(Op.BINGET, Op.LONG_BINGET, index);
    return true;
  }

  private memoize(value: unknown): void {
    this.memo.set(value, this.memoSize);
    this.indexed(Op.BINPUT, Op.LONG_BINPUT, this.memoSize++);
  }

  private indexed(short: number, long: number, index: number): void {
    if (index <= 0xff) {
      this.out.uint8(short);
      this.out.uint8(index);
    } else {
      this.out.uint8(long);
      this.out.uint32(index);
    }
  }

  private unwritableError(what: string): TorchBindError {
    return new TorchBindError(
      `cannot save ${what} (at ${pathOf(this.current)}): a checkpoint holds tensors, Map and plain objects, arrays, ` +
        'Tuple, Set, strings, numbers, bigint, booleans, null and Uint8Array',
      'ERR_TORCHBIND_UNSUPPORTED_VALUE',
    );
  }
}

/** Names in a pickle of protocol 2 are those of Python 2. */
function pythonTwo(name: GlobalName): GlobalName {
  return name.module === 'builtins' ? builtin(name.name) : name;
}

function builtin(name: string): GlobalName {
  return new GlobalName('__builtin__', name);
}

/** `value['optimizer']['lr']` */
function pathOf(task: Task): string {
  const keys: string[] = [];
  for (let at: Task | undefined = task; at !== undefined; at = at.parent) {
    if (at.key !== undefined) keys.push(typeof at.key === 'string' ? `['${at.key}']` : `[${String(at.key)}]`);
  }
  return `value${keys.reverse().join('')}`;
}

/** An object that is written as a call of a known function: Python's `__reduce__`. */
export class Reduction {
  constructor(
    readonly callee: GlobalName,
    readonly args: Tuple,
    /** What BUILD completes the object with, if anything. */
    readonly state?: unknown,
  ) {}
}

/** An object that is written as a reference to something outside of the pickle. */
export class PersistentId {
  constructor(readonly id: Tuple) {}
}

/** An object that cannot be written, and why. */
export class Unwritable {
  /** @param what for the message: `a sparse tensor` */
  constructor(readonly what: string) {}
}

export type Reduced = Reduction | GlobalName | PersistentId | Unwritable;

/** Whether a value says itself how it is written. */
export function isReduced(value: object): value is Reduction | GlobalName | PersistentId {
  return value instanceof Reduction || value instanceof GlobalName || value instanceof PersistentId;
}
