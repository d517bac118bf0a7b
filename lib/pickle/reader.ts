import { Cost, MemoryBudget, tupleCost } from './budget';
import { Cursor } from './cursor';
import { CheckpointCode } from '../errors';
import { GlobalError, type NameOptions, lookUp, PickleGlobal, RefusedName, Unfinished } from './globals';
import { PythonKeys } from './keys';
import { LiteralReader, notLiteral } from './literals';
import { runAtOnce } from '../workers/slices';
import { Memo, recalledIndices, sliceOfOpcodes } from './memo';
import { Op, opName } from './opcodes';
import { PickleStack } from './stack';
import { DictSubclass, FrozenSet, GlobalName, InertObject, isKnownDict, OrderedDict, Tuple } from './types';

const highestProtocol = 5;

export interface PickleReaderOptions extends NameOptions {
  /** What a persistent id (BINPERSID) stands for. Throws `GlobalError` where the id is not one. */
  persistentLoad: (id: unknown) => unknown;
  /** Gives floats that a plain number would turn into ints as `Float`. */
  exact?: boolean;
  /** Takes objects of unknown classes as keys of dicts, each a key of its own. */
  objectKeys?: boolean;
  /** What may be made of memory; default: a new one with the default limit. */
  budget?: MemoryBudget;
  /** Name of the record that the bytes are, for messages. */
  record?: string;
}

export interface PickleResult {
  value: unknown;
  /** Position just after STOP. */
  end: number;
  /** Unknown classes whose instances are dicts, and are read as such. */
  dictSubclasses: string[];
}

/**
 * Reads one pickle of protocol 0 to 5 as data. No name is ever imported and no code is run: a name that is not in
 * `globals` is refused (or inert data, on request), and so are the opcodes that exist to call things (INST, OBJ, NEWOBJ
 * of known classes, NEWOBJ_EX, EXT*).
 *
 * Objects that the pickle shares are shared in the result, and cycles stay cycles. The stack is explicit, so depth is
 * bounded only by the length of the stream; the number of objects also by `budget`.
 *
 * @throws CheckpointError for anything but a well-formed pickle of known things
 */
export function readPickle(bytes: Uint8Array, options: PickleReaderOptions): PickleResult {
  return runAtOnce(readPickleSteps(bytes, options));
}

/** The same, which yields between slices of the work. */
export function readPickleSteps(bytes: Uint8Array, options: PickleReaderOptions): Generator<void, PickleResult, void> {
  return new PickleReader(bytes, options).read();
}

class PickleReader {
  private readonly cursor: Cursor;
  private readonly literals: LiteralReader;
  private readonly budget: MemoryBudget;
  private readonly stack: PickleStack;
  private memo!: Memo;
  private readonly keys: PythonKeys;
  /** Tuples and dicts that the memo keeps. */
  private readonly shared = new Set<unknown>();
  /** Where in the memo objects are that another value will replace. */
  private readonly replaceable = new Map<unknown, number[]>();
  /** Objects that the pickle refers to before it gives them items. */
  private readonly recalled = new Set<InertObject>();
  private readonly refused = new Map<string, RefusedName>();
  private readonly dictSubclasses = new Set<string>();
  /** Position of the opcode that is being executed. */
  private opStart = 0;

  constructor(
    bytes: Uint8Array,
    private readonly options: PickleReaderOptions,
  ) {
    this.cursor = new Cursor(bytes, options.record);
    this.budget = options.budget ?? new MemoryBudget();
    this.stack = new PickleStack(this.spend, this.fail);
    this.keys = new PythonKeys(this.spend, options.objectKeys);
    this.literals = new LiteralReader(this.cursor, options.exact === true, this.fail, this.spend);
  }

  *read(): Generator<void, PickleResult, void> {
    this.memo = new Memo(yield* recalledIndices(this.cursor.bytes));
    try {
      const value = yield* this.readValue();
      for (const name of this.refused.values()) if (name.objects === 0 || name.others > 0) throw name.refusal;
      return { value, end: this.cursor.position, dictSubclasses: [...this.dictSubclasses] };
    } catch (error) {
      // The first name that is not known is the reason for what follows.
      for (const name of this.refused.values()) if (name.objects === 0 || name.others > 0) throw name.refusal;
      throw error;
    }
  }

  private *readValue(): Generator<void, unknown, void> {
    if (this.cursor.bytes.length === 0) throw this.cursor.error('the pickle is empty', CheckpointCode.truncated);
    for (let opcodes = 1; ; opcodes++) {
      if (opcodes % sliceOfOpcodes === 0) yield;
      this.opStart = this.cursor.position;
      if (this.opStart === this.cursor.bytes.length)
        throw this.fail('the pickle ends without STOP', CheckpointCode.truncated);
      const op = this.cursor.opcode();
      if (op === Op.STOP) break;
      this.step(op);
    }
    const value = this.pop();
    if (!this.stack.isEmpty) throw this.fail('objects are left over at the end of the pickle');
    return value;
  }

  /** One opcode: the most frequent kinds first. */
  private step(op: number): void {
    if (this.memoOp(op)) return;
    const literal = this.literals.read(op);
    if (literal !== notLiteral) this.push(literal);
    else if (!this.structure(op)) this.special(op);
  }

  /** Opcodes that build containers from what is on the stack. */
  private structure(op: number): boolean {
    switch (op) {
      case Op.MARK:
        return this.stack.mark();
      case Op.TUPLE:
        return this.push(this.stack.popTuple());
      case Op.TUPLE1:
        return this.push(this.stack.tuple(1));
      case Op.TUPLE2:
        return this.push(this.stack.tuple(2));
      case Op.TUPLE3:
        return this.push(this.stack.tuple(3));
      case Op.LIST:
        return this.push(this.list(this.stack.popMark()));
      case Op.DICT:
        return this.dict(this.stack.popMark());
      case Op.APPEND:
        return this.appendOne(this.pop());
      case Op.APPENDS:
        return this.append(this.stack.popMark());
      case Op.SETITEM: {
        const value = this.pop();
        return this.setItems([this.pop(), value], this.stack.top());
      }
      case Op.SETITEMS:
        return this.setItems(this.stack.popMark(), this.stack.top());
      case Op.ADDITEMS:
        return this.addItems(this.stack.popMark());
      case Op.FROZENSET:
        return this.frozenSet(this.stack.popMark());
      case Op.POP:
        return this.stack.drop();
      case Op.POP_MARK:
        this.stack.popMark();
        return true;
      default:
        return false;
    }
  }

  private memoOp(op: number): boolean {
    const { cursor } = this;
    switch (op) {
      case Op.BINPUT:
        return this.put(cursor.uint8());
      case Op.LONG_BINPUT:
        return this.put(cursor.uint32());
      case Op.PUT:
        return this.put(this.memoIndex());
      case Op.MEMOIZE:
        return this.put(this.memo.size);
      case Op.BINGET:
        return this.get(cursor.uint8());
      case Op.LONG_BINGET:
        return this.get(cursor.uint32());
      case Op.GET:
        return this.get(this.memoIndex());
      default:
        return false;
    }
  }

  private special(op: number): void {
    const { cursor } = this;
    switch (op) {
      case Op.PROTO:
        return this.protocol(cursor.uint8());
      case Op.FRAME:
        return cursor.openFrame(cursor.uint64());
      case Op.GLOBAL: {
        const module = this.literals.name();
        return this.global(module, this.literals.name());
      }
      case Op.STACK_GLOBAL: {
        const name = this.pop();
        const module = this.pop();
        if (typeof module !== 'string' || typeof name !== 'string') throw this.fail('STACK_GLOBAL without two strings');
        return this.global(module, name);
      }
      case Op.REDUCE:
        return this.reduce();
      case Op.NEWOBJ:
        return this.newObject();
      case Op.BUILD:
        return this.build();
      case Op.BINPERSID:
        this.spend(Cost.object);
        this.persistent(this.pop());
        return;
      default:
        throw this.opcodeError(op);
    }
  }

  private opcodeError(op: number): Error {
    return this.fail(`pickle opcode ${opName(op)} is not one that a checkpoint needs, and is refused`);
  }

  private protocol(version: number): void {
    if (this.opStart !== 0) throw this.fail('a second pickle begins inside the first');
    if (version > highestProtocol)
      throw this.fail(`pickle protocol ${version} is unknown; 0 to ${highestProtocol} are read`);
  }

  private global(module: string, name: string): void {
    const key = `${module}\n${name}`;
    const known = this.refused.get(key);
    const found = known ?? lookUp(module, name, this.options, this.spend, this.fail);
    if (found instanceof RefusedName) this.refused.set(key, found);
    this.push(found);
  }

  private reduce(): void {
    const args = this.pop();
    const callee = this.pop();
    if (callee instanceof RefusedName) throw callee.refusal;
    if (callee instanceof GlobalName) return this.inertObject(callee, args, true);
    if (!(callee instanceof PickleGlobal) || callee.call === undefined) {
      throw this.fail(`REDUCE calls ${callee instanceof PickleGlobal ? callee.name : 'what is not a function'}`);
    }
    if (!(args instanceof Tuple)) throw this.fail(`REDUCE of ${callee.name} without a tuple of arguments`);
    const { call } = callee;
    this.spend(Cost.object);
    this.push(this.guarded(callee.name, () => call(args, this.spend, this.keys)));
    this.release(args);
    for (const part of args) this.release(part);
  }

  private persistent(id: unknown): void {
    this.push(this.guarded('persistent id', () => this.options.persistentLoad(id)));
    this.release(id);
  }

  private share(value: unknown): void {
    if (this.shared.has(value)) return;
    this.spend(Cost.entry);
    this.shared.add(value);
  }

  /**
   * Gives back what an argument took: what known functions make holds no tuple that it was given, nor an empty OrderedDict (the
   * hooks that every tensor has).
   */
  private release(value: unknown): void {
    if (this.shared.has(value)) return;
    if (value instanceof Tuple) this.budget.give(tupleCost(value.length));
    else if (value instanceof OrderedDict && value.size === 0) this.budget.give(2 * Cost.map + Cost.object);
  }

  /** Instances of known classes are never made without a call; those of unknown ones are data. */
  private newObject(): void {
    const args = this.pop();
    const type = this.pop();
    if (!(type instanceof GlobalName)) throw this.opcodeError(Op.NEWOBJ);
    this.inertObject(type, args, false);
  }

  private inertObject(type: GlobalName, args: unknown, called: boolean): void {
    const { module, name } = type;
    if (!(args instanceof Tuple)) throw this.fail(`${module}.${name} is called without a tuple of arguments`);
    this.spend(2 * Cost.object + Cost.array + Cost.map);
    const object = new InertObject(module, name, args, called);
    if (type instanceof RefusedName) {
      if (args.length > 0) throw type.refusal;
      type.objects++;
      type.others++;
    }
    this.push(isKnownDict(object) ? this.dictOf(object) : object);
  }

  /**
   * A bare object of an unknown class that gets items is an instance of a subclass of dict: a dict takes its place, on the stack and
   * in the memo. Not where the pickle has it elsewhere already.
   */
  private asDict(object: InertObject): Map<unknown, unknown> {
    const { args, called, members, items } = object;
    const isDict = !called && args.length + members.length + items.size === 0 && object.state === null;
    if (!isDict || this.recalled.has(object)) return items;
    const dict = this.dictOf(object);
    this.replace(object, dict);
    return dict;
  }

  private dictOf({ module, name }: InertObject): DictSubclass {
    this.dictSubclasses.add(`${module}.${name}`);
    const refused = this.refused.get(`${module}\n${name}`);
    if (refused !== undefined) refused.others--;
    return new DictSubclass(module, name);
  }

  /** An OrderedDict takes attributes, which are kept aside from its items. */
  private build(): void {
    const state = this.pop();
    const target = this.stack.top();
    if (target instanceof Unfinished) {
      const value = this.guarded(target.what, () => target.build(state));
      return this.replace(target, value);
    }
    if (target instanceof InertObject || target instanceof DictSubclass) {
      target.state = state;
      return;
    }
    if (!(target instanceof OrderedDict)) throw this.fail('BUILD on an object that takes no state');
    if (!(state instanceof Map)) throw this.fail('BUILD with a state that is not a dict');
    this.spend(state.size * Cost.entry);
    for (const [name, value] of state) {
      if (typeof name !== 'string') throw this.fail('BUILD with an attribute name that is not a string');
      target.attributes.set(name, value);
    }
  }

  /** Replaces the value on top of the stack, also where the memo holds it. */
  private replace(target: unknown, value: unknown): void {
    this.stack.replaceTop(value);
    for (const index of this.replaceable.get(target) ?? []) {
      if (this.memo.get(index) === target) this.memo.put(index, value, this.spend);
    }
  }

  /** The items of a new list. */
  private list(items: unknown[]): unknown[] {
    this.spend(tupleCost(items.length));
    return items;
  }

  private dict(items: unknown[]): boolean {
    const dict = new Map<unknown, unknown>();
    this.spend(Cost.map);
    this.push(dict);
    return this.setItems(items, dict);
  }

  private append(items: unknown[]): boolean {
    const list = this.listOnTop();
    this.spend(list.length === 0 ? Cost.firstItem + items.length * Cost.item : items.length * Cost.laterItem);
    // At once: an array that grows is copied each time.
    const start = list.length;
    list.length += items.length;
    for (let i = 0; i < items.length; i++) list[start + i] = items[i];
    return true;
  }

  private appendOne(item: unknown): boolean {
    const list = this.listOnTop();
    this.spend(list.length === 0 ? Cost.firstItem : Cost.laterItem);
    list.push(item);
    return true;
  }

  private listOnTop(): unknown[] {
    const top = this.stack.top();
    const list = top instanceof InertObject ? top.members : top;
    // Array.isArray also holds for Tuple and torch.Size, which Python cannot append to.
    if (!Array.isArray(list) || list.constructor !== Array) throw this.fail('items are appended to what is not a list');
    return list;
  }

  private setItems(items: unknown[], target: unknown): boolean {
    if (items.length % 2 !== 0) throw this.fail('a dict has a key without a value');
    const dict = target instanceof InertObject ? this.asDict(target) : target;
    if (!(dict instanceof Map)) throw this.fail('items are set on what is not a dict');
    this.spend((items.length / 2) * Cost.entry);
    this.guarded('dict key', () => {
      for (let i = 0; i < items.length; i += 2) this.keys.set(dict, items[i], items[i + 1]);
    });
    return true;
  }

  private addItems(items: unknown[]): boolean {
    const set = this.stack.top();
    if (!(set instanceof Set) || set instanceof FrozenSet) throw this.fail('members are added to what is not a set');
    this.spend(items.length * Cost.entry);
    this.addMembers(set, items);
    return true;
  }

  private frozenSet(items: unknown[]): boolean {
    this.spend(Cost.map + items.length * Cost.entry);
    const set = new FrozenSet();
    this.addMembers(set, items);
    return this.push(set);
  }

  private addMembers(set: Set<unknown>, items: unknown[]): void {
    this.guarded('set member', () => {
      for (const item of items) this.keys.add(set, item);
    });
  }

  private put(index: number): boolean {
    // A Map is as small as what it holds, but an index beyond the stream's length is a lie all the same.
    if (index > this.cursor.bytes.length) throw this.fail(`memo index ${index} is beyond the length of the pickle`);
    const value = this.stack.top();
    if (!this.memo.put(index, value, this.spend)) return true;
    if (value instanceof Tuple || value instanceof OrderedDict) this.share(value);
    if (value instanceof Unfinished || value instanceof InertObject) {
      this.spend(Cost.entry + Cost.array);
      const places = this.replaceable.get(value);
      if (places === undefined) this.replaceable.set(value, [index]);
      else places.push(index);
    }
    return true;
  }

  private get(index: number): boolean {
    const value = this.memo.get(index);
    if (value === undefined) throw this.fail(`memo index ${index} was never set`);
    if (value instanceof InertObject) this.recalled.add(value);
    return this.push(value);
  }

  private memoIndex(): number {
    const line = this.cursor.line();
    if (!/^\d{1,10}$/.test(line)) throw this.fail('a memo index is not a number');
    return Number(line);
  }

  private push(value: unknown): true {
    return this.stack.push(value);
  }

  private pop(): unknown {
    return this.stack.pop();
  }

  /** Runs what knows the meaning of a value but not its place in the file. */
  private guarded<T>(what: string, body: () => T): T {
    try {
      return body();
    } catch (error) {
      if (error instanceof GlobalError) throw this.fail(`${what}: ${error.message}`);
      throw error;
    }
  }

  private readonly spend = (bytes: number): void => {
    if (!this.budget.take(bytes)) throw this.fail(this.budget.message, CheckpointCode.limit);
  };

  private readonly fail = (message: string, code: CheckpointCode = CheckpointCode.pickle): Error =>
    this.cursor.error(message, code, this.opStart);
}
